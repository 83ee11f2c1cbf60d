# METADATA
# title: calendar
# description: |
#   A domain must not be stopped while a freeze is in force, nor outside its maintenance windows. Freezes and windows are for
#   every domain unless `domains` names some. A domain without a window may be stopped at any time, a domain with several
#   windows in any of them. A freeze counts within a window, too.
# custom:
#   reads:
#     - data.site.calendar.operations
#     - data.site.calendar.time_zone
#     - data.site.calendar.domains
#     - data.site.calendar.freezes
#     - data.site.calendar.windows
package stopguard.rules.calendar

import data.stopguard.operation
import data.stopguard.state

veto contains {"message": message, "until": freeze.until} if {
	some item in _freezes
	freeze := stopguard.freeze(item, _zone, input.time)
	freeze.in_force
	message := sprintf("change freeze until %s: %s; %s it after that%s", [
		stopguard.shown(freeze.until), stopguard.quoted(item.name), operation.verb, state.note,
	])
}

veto contains message if {
	some item in _freezes
	stopguard.freeze(item, _zone, input.time).is_empty
	message := sprintf("change freeze %s does not end after it starts; correct data.site.calendar.freezes%s", [
		stopguard.quoted(item.name), state.note,
	])
}

veto contains reason if {
	count(_windows) > 0
	windows := [stopguard.window(item, _zone, input.time) | some item in _windows]
	every window in windows {
		not window.is_open
	}
	reason := _closed({window.opens | some window in windows; window.opens != ""})
}

_closed(openings) := {"message": message, "until": until} if {
	until := min(openings)
	message := sprintf("outside its maintenance windows; %s it when the next one opens, at %s%s", [
		operation.verb, stopguard.shown(until), state.note,
	])
} else := sprintf("outside its maintenance windows, and none opens; correct data.site.calendar.windows%s", [state.note])

_freezes := _applying(data.site.calendar.freezes)

_windows := _applying(data.site.calendar.windows)

# Freezes and windows that name no domain are for those that the calendar names.
_applying(items) := [item |
	input.operation in object.get(data.site.calendar, "operations", ["stop"])
	domains := object.get(data.site.calendar, "domains", ["*"])
	some item in items
	stopguard.match(object.get(item, "domains", domains), input.domain.name, input.domain.uuid)
]

_zone := object.get(data.site.calendar, "time_zone", "UTC")
