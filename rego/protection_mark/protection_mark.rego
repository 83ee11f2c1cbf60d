# METADATA
# title: protection_mark
# description: |
#   A domain whose metadata carries a protection mark must not be stopped or deleted until the mark lapses:
#
#       <protection xmlns="urn:stopguard:protection:1" reason="" owner="" until="" domain="" operations=""/>
#
#   Every attribute may be left out. until is an RFC 3339 time or a date (that day's end in UTC); a mark whose until cannot
#   be read never lapses. domain is the UUID of the domain that the mark was made for: in a clone, which has another one,
#   the mark is inert. Metadata that cannot be read may hold a mark, and so vetoes.
# custom:
#   on: always
#   reads:
#     - data.site.protection_mark.operations
package stopguard.rules.protection_mark

import data.stopguard.state

veto contains reason if {
	some mark in input.domain.marks
	mark.in_force
	_covers(mark)
	reason := _reason(mark)
}

# Why a mark is not heeded is on record, for somebody may believe that it protects.
note contains mark.note if {
	some mark in input.domain.marks
	not mark.in_force
	_covers(mark)
}

# The site's setting stands in for the default of a mark that does not name a stop.
_covers(mark) if input.operation in _operations(mark)

_operations(mark) := array.concat(operations, mark.named) if {
	operations := data.site.protection_mark.operations
	not "stop" in mark.named
} else := mark.operations

# An element that is not a mark says what is wrong with it.
_reason(mark) := mark.note if {
	mark.note != ""
} else := {"message": _message(mark), "until": mark.until} if {
	mark.until != ""
} else := _message(mark)

_message(mark) := concat("", ["protected", mark.shown, _unreadable(mark.unreadable), _why(mark.reason), state.note])

default _unreadable(_) := ""

_unreadable(attributes) := sprintf(" (operations %s cannot be read; all are refused)", [stopguard.quoted(operations)]) if {
	operations := attributes.operations
	not input.operation in {"stop", "delete"}
}

_why("") := ""

_why(reason) := sprintf(": %s", [stopguard.quoted(reason)]) if reason != ""
