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

veto contains reason if {
	some mark in input.domain.metadata
	mark.namespace == "urn:stopguard:protection:1"
	mark.name == "protection"
	attributes := mark.attributes
	operations := object.get(attributes, "operations", "")
	_covers(operations)
	until := object.get(attributes, "until", "")
	not until in _lapsed
	not _of_another_domain(object.get(attributes, "domain", ""))
	message := _message(until, operations, object.get(attributes, "reason", ""))
	reason := _reason(message, until)
}

veto contains message if {
	input.operation != "tamper"
	some element in input.domain.metadata
	_is_ours(element.namespace)
	not _is_mark(element.namespace, element.name)
	_covers(object.get(element.attributes, "operations", ""))
	message := sprintf(
		"metadata holds %s in %s, which is not protection in urn:stopguard:protection:1; correct or remove it",
		[text.quoted(element.name), text.quoted(element.namespace)],
	)
}

# What is wrong with it may quote it, and a reason goes on record.
veto contains message if {
	input.domain.metadata_error != ""
	input.operation != "tamper"
	message := "its metadata, title or description cannot be read, and may hold a mark; look at it with virsh dumpxml"
}

# Why a mark is not heeded is on record, for somebody may believe that it protects.
note contains message if {
	some mark in input.domain.metadata
	mark.namespace == "urn:stopguard:protection:1"
	mark.name == "protection"
	uuid := mark.attributes.domain
	_of_another_domain(uuid)
	_covers(object.get(mark.attributes, "operations", ""))
	message := sprintf("its mark was made for the domain %s, which this one is a clone of, and is inert", [text.quoted(uuid)])
}

note contains message if {
	some until in _lapsed
	some mark in input.domain.metadata
	mark.namespace == "urn:stopguard:protection:1"
	mark.name == "protection"
	mark.attributes.until == until
	_covers(object.get(mark.attributes, "operations", ""))
	message := sprintf("its mark has lapsed on %s", [when.shown(until)])
}

# Whatever stands there, a mark holds against a stop: nothing in it can make the mark weaker.
default _covers(_) := false

_covers(_) if input.operation == "stop"

_covers(operations) if input.operation in regex.split(`[ \t\r\n]+`, operations)

_covers(operations) if not _is_readable(operations)

default _is_readable(_) := false

_is_readable(operations) if regex.match(`^[ \t\r\n]*(?:(?:stop|pause|reset|move|tamper)(?:[ \t\r\n]+|$)){0,20}$`, operations)

_message(until, operations, reason) := concat("", ["protected", _until(until), _unread(operations), _why(reason), state.note])

_unread(operations) := sprintf(" (operations %s cannot be read; all are refused)", [text.quoted(operations)]) if {
	input.operation != "stop"
	not _is_readable(operations)
} else := ""

_lapsed contains until if {
	some mark in input.domain.metadata
	mark.namespace == "urn:stopguard:protection:1"
	mark.name == "protection"
	until := mark.attributes.until
	when.passed(until)
}

# What is no UUID at all does not say that it is another's.
default _of_another_domain(_) := false

_of_another_domain(uuid) if {
	uuid != ""
	digits := lower(replace(uuid, "-", ""))
	regex.match(`^[0-9a-f]{32}$`, digits)
	digits != lower(replace(input.domain.uuid, "-", ""))
}

# In such a namespace somebody meant to protect this domain, and mistyped if it is no mark.
default _is_ours(_) := false

_is_ours(namespace) if startswith(lower(trim_space(namespace)), "urn:stopguard")

default _is_mark(_, _) := false

_is_mark("urn:stopguard:protection:1", "protection")

_reason(message, until) := {"message": message, "until": until} if {
	when.readable(until)
} else := message

_until("") := ""

_until(until) := sprintf(" until %s", [when.shown(until)]) if {
	when.readable(until)
} else := sprintf(" (until %s cannot be read)", [text.quoted(until)]) if {
	until != ""
}

_why("") := ""

_why(reason) := sprintf(": %s", [text.quoted(reason)]) if reason != ""
