# METADATA
# title: min_running
# description: |
#   A domain must not be stopped if that leaves fewer than `min` members of its group running: on this host, or with
#   `scope: fleet` on all hosts of the fleet. A domain may belong to several groups.
# custom:
#   reads:
#     - data.site.min_running.operations
#     - data.site.min_running.groups
package stopguard.rules.min_running

import data.stopguard.state

veto contains message if {
	some group in _groups
	message := sprintf("group %s needs %d running %s%s", [stopguard.quoted(group.name), group.min, _lack(group), state.note])
}

# Why the group's members do not suffice.
_lack(group) := sprintf("on this host, and %s this one leaves %d; start another first", [_doing[input.operation], left]) if {
	object.get(group, "scope", "host") == "host"
	left := count(_others_running(group))
	left < group.min
} else := lack if {
	group.scope == "fleet"
	lack := _lack_in_fleet(group, _counted(group))
}

_lack_in_fleet(group, counted) := sprintf("in the fleet, and %s this one leaves %d%s; start another first", [
	_doing[input.operation], count(others), _where(others),
]) if {
	counted.error == ""
	others := _others_in_fleet(counted.members)
	count(others) < group.min
} else := sprintf("in the fleet, and how many run is not known: %s; see stopguard fleet, or let it go with a ticket", [counted.error]) if {
	counted.error != ""
}

# The groups that the domain belongs to, if its operation could be refused.
_groups contains group if {
	input.operation in object.get(data.site.min_running, "operations", ["stop"])
	not input.domain.state in {"shutdown", "shutoff", "crashed"}
	some group in data.site.min_running.groups
	_holds(group, input.domain.name, input.domain.uuid, input.domain.metadata)
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

# What is known of the group's members in the fleet.
_counted(group) := fleet if {
	some fleet in input.fleet.groups
	fleet.name == group.name
} else := {"error": "the fleet was not asked", "members": []}

_others_in_fleet(members) := {sprintf("%s on %s", [stopguard.quoted(member.name), stopguard.quoted(member.host)]) |
	some member in members
	not member.reserved
	member.name != input.domain.name
	member.uuid != input.domain.uuid
}

_where(others) := sprintf(" (%s)", [concat(", ", others)]) if count(others) > 0

_where(others) := "" if count(others) == 0

_holds(group, name, uuid, _) if stopguard.match(object.get(group, "members", []), name, uuid)

_holds(group, _, _, metadata) if {
	namespace := group.metadata.namespace
	some element in metadata
	element.namespace == namespace
	element.name == object.get(group.metadata, "name", element.name)
	element.text == object.get(group.metadata, "text", element.text)
	object.subset(element.attributes, object.get(group.metadata, "attributes", {}))
}
