# METADATA
# title: min_running
# description: |
#   A domain must not be stopped if that leaves fewer than `min` members of its group running on this host. A domain may
#   belong to several groups.
#
#   Another member counts only if it is known to run. It does not count if it is paused, suspended, shutting down, in an
#   unknown state, or if its stop has been allowed and is under way. The domain itself may always be stopped if its guest has
#   ended already (shut down or crashed); in every other state, such as paused, it could go on, and the rule applies. An
#   earlier allowed stop of it changes nothing: it may have failed, and other members may have gone since.
#
#   The same holds for the other operations that the settings name. Two stops or moves at once see each other; a pause or a
#   reset is seen only once libvirt has begun it.
# custom:
#   reads:
#     - data.site.min_running.operations
#     - data.site.min_running.groups
package stopguard.rules.min_running

import data.stopguard.state

veto contains message if {
	input.operation in object.get(data.site.min_running, "operations", ["stop"])
	not input.domain.state in {"shutdown", "shutoff", "crashed"}
	some group in data.site.min_running.groups
	_holds(group, input.domain.name, input.domain.uuid, input.domain.metadata)
	left := count(_others_running(group))
	left < group.min
	message := sprintf("group %s needs %d running on this host, and %s this one leaves %d; start another first%s", [
		stopguard.quoted(group.name), group.min, _doing[input.operation], left, state.note,
	])
}

_doing := {"stop": "stopping", "pause": "pausing", "reset": "resetting", "move": "moving"}

_others_running(group) := {domain.name |
	some domain in input.host.domains
	domain.state == "running"
	not domain.stopping
	domain.name != input.domain.name
	domain.uuid != input.domain.uuid
	_holds(group, domain.name, domain.uuid, domain.metadata)
}

_holds(group, name, uuid, _) if stopguard.match(object.get(group, "members", []), name, uuid)

_holds(group, _, _, metadata) if {
	some element in metadata
	element.namespace == group.metadata.namespace
	element.name == object.get(group.metadata, "name", element.name)
	element.text == object.get(group.metadata, "text", element.text)
	object.subset(element.attributes, object.get(group.metadata, "attributes", {}))
}
