# METADATA
# title: hold
# description: |
#   A domain must not be stopped while a program holds it:
#
#       stopguard hold pg-primary-01 --reason 'nightly backup' --operations reset --at-most 12h -- COMMAND
# custom:
#   on: always
#   reads: []
package stopguard.rules.hold

veto contains reason if {
	some hold in input.domain.holds
	input.operation in hold.operations
	reason := _reason(hold)
}

_reason(hold) := _message(hold) if {
	hold.until == ""
} else := {"message": _message(hold), "until": hold.until}

_message(hold) := sprintf("held by %s (pid %d) since %s: %s", [hold.holder, hold.pid, hold.since, stopguard.quoted(hold.reason)])
