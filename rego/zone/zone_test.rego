package stopguard.zone_test

import data.stopguard.zone

wall(text) := time.parse_ns("2006-01-02T15:04:05", text)

moment(text) := time.parse_rfc3339_ns(text)

test_clocks if {
	zone.clock(moment("2026-07-01T12:00:00.9Z"), "Asia/Kathmandu") == wall("2026-07-01T17:45:00")
	zone.clock(moment("2026-07-01T12:00:00Z"), "UTC") == wall("2026-07-01T12:00:00")
}

test_a_time_that_is_shown_once if {
	zone.shown(wall("2026-07-01T17:45:00"), "Asia/Kathmandu") == {moment("2026-07-01T12:00:00Z")}
	zone.first(wall("2026-03-29T03:00:00"), "Europe/Berlin") == moment("2026-03-29T01:00:00Z")
	zone.last(wall("2026-10-25T03:00:00"), "Europe/Berlin") == moment("2026-10-25T02:00:00Z")
	zone.put_back(wall("2026-10-25T03:00:00"), "Europe/Berlin") == set()
}

test_a_time_that_is_skipped if {
	zone.shown(wall("2026-03-29T02:00:00"), "Europe/Berlin") == set()
	zone.first(wall("2026-03-29T02:59:59"), "Europe/Berlin") == moment("2026-03-29T01:00:00Z")
	zone.last(wall("2026-03-29T02:00:00"), "Europe/Berlin") == moment("2026-03-29T01:00:00Z")
	zone.put_back(wall("2026-03-29T02:30:00"), "Europe/Berlin") == set()
}

test_a_day_that_is_skipped if {
	zone.first(wall("2011-12-30T12:00:00"), "Pacific/Apia") == moment("2011-12-30T10:00:00Z")
}

test_a_time_that_is_shown_twice if {
	zone.shown(wall("2026-10-25T02:00:00"), "Europe/Berlin") == {moment("2026-10-25T00:00:00Z"), moment("2026-10-25T01:00:00Z")}
	zone.first(wall("2026-10-25T02:30:00"), "Europe/Berlin") == moment("2026-10-25T00:30:00Z")
	zone.last(wall("2026-10-25T02:30:00"), "Europe/Berlin") == moment("2026-10-25T01:30:00Z")
	zone.put_back(wall("2026-10-25T02:30:00"), "Europe/Berlin") == {moment("2026-10-25T01:00:00Z")}
}
