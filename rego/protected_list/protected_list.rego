# METADATA
# title: protected_list
# description: |
#   A domain whose name or UUID is in /etc/libvirt/protected-domains must not be stopped or deleted. The list has a name,
#   a glob or a UUID a line, with # comments. It is root's; a user who may write it may lift the veto.
# custom:
#   on: always
#   reads:
#     - data.site.protected_list.operations
package stopguard.rules.protected_list

import data.stopguard.operation
import data.stopguard.state

veto contains message if {
	entry := input.domain.listed[0]
	input.operation in _operations
	message := sprintf("listed in /etc/libvirt/protected-domains%s; take it off the list to %s it%s", [
		_as(entry), operation.verb, state.note,
	])
}

default _operations := ["stop", "delete"]

_operations := data.site.protected_list.operations

_as(entry) := "" if {
	entry == input.domain.name
} else := sprintf(" as %s", [entry])
