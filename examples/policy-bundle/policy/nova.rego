# METADATA
# title: nova
# description: |
#   A domain of OpenStack that belongs to a project of data.site.nova.projects, or has a flavor whose name begins with a
#   prefix of data.site.nova.flavors, must not be stopped before its contact was asked.
package stopguard.rules.nova

import data.stopguard.text

veto contains message if {
	input.operation == "stop"
	some owner in _children(_instance, "owner")
	some project in _children(owner, "project")
	some protected in data.site.nova.projects
	project.text == protected.name
	message := sprintf("belongs to project %s; ask %s first", [text.quoted(project.text), protected.contact])
}

veto contains message if {
	input.operation == "stop"
	some flavor in _children(_instance, "flavor")
	name := object.get(flavor.attributes, "name", "")
	some protected in data.site.nova.flavors
	startswith(name, protected.prefix)
	message := sprintf("has flavor %s; ask %s first", [text.quoted(name), protected.contact])
}

# A domain has one at most. What nova writes beside it is not read.
_instance := {"children": [child |
	some element in input.domain.metadata
	element.namespace == "http://openstack.org/xmlns/libvirt/nova/1.1"
	element.name == "instance"
	some child in element.children
]}

_children(element, name) := [child |
	some child in element.children
	child.namespace == "http://openstack.org/xmlns/libvirt/nova/1.1"
	child.name == name
]
