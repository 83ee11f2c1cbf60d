# METADATA
# title: calendar
# description: |
#   A domain must not be stopped while a freeze is in force, nor outside its maintenance windows. Freezes and windows are for
#   every domain unless `domains` names some. A domain that no window is for may be stopped at any time, one that several are
#   for in any of them. A freeze counts within a window, too.
#
#   A window is open while clocks in its time zone show a time from `start` to just before `end`. Where that goes over
#   midnight, its day is the one on which it starts. The hour that clocks skip when summer time begins is no part of it; of
#   the hour that they show twice when summer time ends, it is open both times.
#
#   A freeze lasts from the first moment at which clocks show `from` to the last at which they show a time before `until`:
#   where such a time is skipped, that is the moment of the change, and where it comes twice, the freeze is the longer for it.
#   One that does not end after it starts is a mistake, and vetoes until it is corrected.
#
#   A time zone that the host does not know makes the rule fail, which vetoes with the zone's name.
#
#   The same goes for the other operations that the settings name.
# custom:
#   reads:
#     - data.site.calendar.operations
#     - data.site.calendar.time_zone
#     - data.site.calendar.domains
#     - data.site.calendar.freezes
#     - data.site.calendar.windows
package stopguard.rules.calendar

import data.stopguard.match
import data.stopguard.operation
import data.stopguard.state
import data.stopguard.text
import data.stopguard.when
import data.stopguard.zone

veto contains {"message": message, "until": until} if {
	_is_concerned
	some freeze in _freezes
	_start(freeze) <= _now
	_now < _end(freeze)
	until := _written(_end(freeze))
	message := sprintf(
		"change freeze until %s: %s; %s it after that%s",
		[when.shown(until), text.quoted(freeze.name), operation.verb, state.note],
	)
}

veto contains message if {
	_is_concerned
	some freeze in _freezes
	_start(freeze) >= _end(freeze)
	message := sprintf(
		"change freeze %s does not end after it starts; correct data.site.calendar.freezes%s",
		[text.quoted(freeze.name), state.note],
	)
}

veto contains {"message": message, "until": until} if {
	_is_concerned
	_outside
	until := _written(min(_next_openings))
	message := sprintf(
		"outside its maintenance windows; %s it when the next one opens, at %s%s",
		[operation.verb, when.shown(until), state.note],
	)
}

veto contains message if {
	_is_concerned
	_outside
	count(_next_openings) == 0
	message := sprintf("outside its maintenance windows, and none opens; correct data.site.calendar.windows%s", [state.note])
}

# Whether there is a freeze or a window for the domain, and the rule answers for the operation.
_is_concerned if {
	operation.among(object.get(data.site.calendar, "operations", []))
	count(_freezes) + count(_windows) > 0
}

_freezes := [freeze |
	some freeze in object.get(data.site.calendar, "freezes", [])
	_is_for_the_domain(freeze)
]

_windows := [window |
	some window in object.get(data.site.calendar, "windows", [])
	_is_for_the_domain(window)
]

_is_for_the_domain(item) if match.one_of(_setting(item, "domains", ["*"]), input.domain.name, input.domain.uuid)

# Of the freeze or window itself, else of the calendar.
_setting(item, key, otherwise) := object.get(item, key, object.get(data.site.calendar, key, otherwise))

_zone(item) := _setting(item, "time_zone", "UTC")

_now := time.parse_rfc3339_ns(input.time)

_day := 86400000000000

_written(moment) := time.format([moment, "UTC", "2006-01-02T15:04:05Z"])

_start(freeze) := zone.first(_wall(freeze.from), _zone(freeze)) if not _has_distance(freeze.from)

_start(freeze) := _moment(freeze.from) if _has_distance(freeze.from)

_end(freeze) := zone.last(_wall(freeze.until) + _length(freeze.until), _zone(freeze)) if not _has_distance(freeze.until)

_end(freeze) := _moment(freeze.until) if _has_distance(freeze.until)

# A time that says how far it is from UTC, as 18:00+01:00 does.
_has_distance(bound) if regex.match(`:[0-9]{2}(?:Z|[+-][0-9]{2}:[0-9]{2})$`, bound)

_moment(bound) := time.parse_rfc3339_ns(_with_seconds(bound))

_wall(bound) := time.parse_rfc3339_ns(sprintf("%sZ", [_with_seconds(bound)]))

_with_seconds(bound) := sprintf("%sT00:00:00", [bound]) if _is_date(bound)

_with_seconds(bound) := regex.replace(replace(bound, " ", "T"), `(T[0-9]{2}:[0-9]{2})(Z|[+-]|$)`, "${1}:00${2}") if not _is_date(bound)

# A date as an end means the whole of that day.
_length(bound) := _day if _is_date(bound)

_length(bound) := 0 if not _is_date(bound)

_is_date(bound) if count(bound) == 10

_outside if {
	count(_windows) > 0
	every window in _windows {
		not _is_open(window)
	}
}

_is_open(window) if {
	wall := zone.clock(_now, _zone(window))
	some days_ago in [0, 1]
	_shows(window, (wall - (wall % _day)) - (days_ago * _day), wall)
}

# Whether wall lies in the window that starts on that day.
_shows(window, day, wall) if {
	_is_day(window, day)
	day + _from(window) <= wall
	wall < day + _until(window)
}

_is_day(window, _) if not "days" in object.keys(window)

_is_day(window, day) if lower(substring(time.weekday(day), 0, 3)) in window.days

_from(window) := _of_day(window.start)

_until(window) := _of_day(window.end) if _of_day(window.end) > _from(window)

_until(window) := _of_day(window.end) + _day if _of_day(window.end) <= _from(window)

_of_day(time_of_day) := time.parse_duration_ns(sprintf("%sm", [replace(time_of_day, ":", "h")]))

_next_openings := {_next_opening(window) | some window in _windows}

# Clocks may skip a window of this week, and the next one then is a week later. Most open sooner, and cost less.
_next_opening(window) := min(_openings(window, 1)) if {
	count(_openings(window, 1)) > 0
} else := min(_openings(window, 15))

# What clocks show may belong to a window of the day before, and after they are put back over midnight to one before that.
_openings(window, days_ahead) := {moment |
	wall := zone.clock(_now, _zone(window))
	some days in numbers.range(-2, days_ahead)
	day := (wall - (wall % _day)) + (days * _day)
	_is_day(window, day)
	some moment in _changes(window, day)
	moment > _now
	_shows(window, day, zone.clock(moment, _zone(window)))
}

# Clocks come into a window when they show its start, or skip it, or are put back from its end.
_changes(window, day) := (zone.shown(start, name) | {zone.first(start, name)}) | zone.put_back(end, name) if {
	name := _zone(window)
	start := day + _from(window)
	end := day + _until(window)
}
