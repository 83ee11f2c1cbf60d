# METADATA
# title: protection_mark
# description: |
#   A domain whose metadata carries a protection mark must not be stopped until the mark lapses:
#
#       <protection xmlns="urn:stopguard:protection:1" reason="" owner="" until="" domain="" operations=""/>
#
#   Every attribute may be left out. until is an RFC 3339 time or a date (that day's end in UTC); a mark whose until cannot
#   be read never lapses. domain is the UUID of the domain that the mark was made for: in a clone, which has another one,
#   the mark is inert. Metadata that cannot be read may hold a mark, and so vetoes.
#
#   operations names what else the mark protects against, with blanks between: pause, reset, move (to another host), tamper
#   (take the mark away, undefine, rename, define anew). A stop is always among them, whether it is named or not. A mark
#   whose operations cannot be read protects against all of them. Whatever cannot be read as a mark may still be corrected:
#   it does not veto to tamper.
# custom:
#   on: always
#   reads: []
package stopguard.rules.protection_mark

import data.stopguard.state
import data.stopguard.text
import data.stopguard.when

veto contains {"message": message, "until": mark.attributes.until} if {
	some mark in _live
	_covers(mark)
	when.readable(mark.attributes.until)
	message := sprintf("protected until %s%s%s%s", [when.shown(mark.attributes.until), _unread(mark), _why(mark), state.note])
}

veto contains message if {
	some mark in _live
	_covers(mark)
	until := object.get(mark.attributes, "until", "")
	not when.readable(until)
	message := sprintf("protected%s%s%s%s", [_for_good(until), _unread(mark), _why(mark), state.note])
}

veto contains message if {
	input.operation != "tamper"
	some element in input.domain.metadata
	_almost_a_mark(element)
	_covers(element)
	message := sprintf(
		"metadata holds %s in %s, which is not protection in urn:stopguard:protection:1; correct or remove it",
		[text.quoted(element.name), text.quoted(element.namespace)],
	)
}

# What is wrong with it may quote it, and a reason goes on record.
veto contains message if {
	input.operation != "tamper"
	input.domain.metadata_error != ""
	message := "its metadata, title or description cannot be read, and may hold a mark; look at it with virsh dumpxml"
}

# Why a mark is not heeded is on record, for somebody may believe that it protects.
note contains message if {
	some mark in _marks
	_covers(mark)
	uuid := object.get(mark.attributes, "domain", "")
	_of_another_domain(uuid)
	message := sprintf("its mark was made for the domain %s, which this one is a clone of, and is inert", [text.quoted(uuid)])
}

note contains message if {
	some mark in _marks
	_covers(mark)
	when.passed(mark.attributes.until)
	message := sprintf("its mark has lapsed on %s", [when.shown(mark.attributes.until)])
}

# Of a stop its attribute is not even read, so nothing that stands in there can make a mark weaker.
_covers(_) if input.operation == "stop"

_covers(mark) if input.operation in regex.split(`[ \t\r\n]+`, _operations(mark))

_covers(mark) if not _is_readable(mark)

_operations(mark) := object.get(mark.attributes, "operations", "")

_is_readable(mark) if regex.match(`^[ \t\r\n]*(?:(?:stop|pause|reset|move|tamper)(?:[ \t\r\n]+|$)){0,20}$`, _operations(mark))

_unread(mark) := sprintf(" (operations %s cannot be read; all are refused)", [text.quoted(_operations(mark))]) if {
	input.operation != "stop"
	not _is_readable(mark)
} else := ""

_marks contains mark if {
	some mark in input.domain.metadata
	mark.namespace == "urn:stopguard:protection:1"
	mark.name == "protection"
}

_live contains mark if {
	some mark in _marks
	not when.passed(object.get(mark.attributes, "until", ""))
	not _of_another_domain(object.get(mark.attributes, "domain", ""))
}

# What is no UUID at all does not say that it is another's.
_of_another_domain(uuid) if {
	uuid != ""
	digits := lower(replace(uuid, "-", ""))
	regex.match(`^[0-9a-f]{32}$`, digits)
	digits != lower(replace(input.domain.uuid, "-", ""))
}

# Somebody meant to protect this domain and mistyped.
_almost_a_mark(element) if {
	_is_ours(element.namespace)
	not _is_mark(element)
}

default _is_ours(_) := false

_is_ours(namespace) if startswith(lower(trim_space(namespace)), "urn:stopguard")

_is_mark(element) if {
	element.namespace == "urn:stopguard:protection:1"
	element.name == "protection"
}

_for_good("") := ""

_for_good(until) := sprintf(" (until %s cannot be read)", [text.quoted(until)]) if until != ""

_why(mark) := sprintf(": %s", [text.quoted(mark.attributes.reason)]) if {
	object.get(mark.attributes, "reason", "") != ""
} else := ""
