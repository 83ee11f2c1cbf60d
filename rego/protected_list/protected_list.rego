# METADATA
# title: protected_list
# description: |
#   A domain whose name or UUID is in /etc/libvirt/protected-domains must not be stopped. The list holds a name, a glob or
#   a UUID a line, with # comments; it is root's, and whoever may write it may lift the veto.
# custom:
#   reads: []
package stopguard.rules.protected_list

import data.stopguard.state

veto contains message if {
	input.operation == "stop"
	entry := input.domain.listed[0]
	message := sprintf(
		"listed in /etc/libvirt/protected-domains%s; take it off the list to stop it%s",
		[_as(entry), state.note],
	)
}

_as(entry) := "" if {
	entry == input.domain.name
} else := sprintf(" as %s", [entry])
