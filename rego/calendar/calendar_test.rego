package stopguard.rules.calendar_test

import data.stopguard.rules.calendar

request(at) := {
	"operation": "stop",
	"time": at,
	"domain": {
		"name": "pg-primary-01",
		"uuid": "d19e7151-4c02-4aa7-a443-59213be70aba",
		"state": "running",
		"reason": "booted",
	},
}

vetoes(settings, at) := reasons if {
	reasons := calendar.veto with input as request(at) with data.site.calendar as settings
}

frozen(until, shown) := {{"message": sprintf("change freeze until %s: year end; stop it after that", [shown]), "until": until}}

closed(until, shown) := {{
	"message": sprintf("outside its maintenance windows; stop it when the next one opens, at %s", [shown]),
	"until": until,
}}

freeze(from, until) := {"freezes": [{"name": "year end", "from": from, "until": until}]}

window(zone, days, start, end) := {"time_zone": zone, "windows": [{"days": days, "start": start, "end": end}]}

nightly(zone, start, end) := {"time_zone": zone, "windows": [{"start": start, "end": end}]}

test_without_freezes_and_windows_it_may_stop if {
	vetoes({"freezes": [], "windows": []}, "2026-12-24T18:00:00Z") == set()
	vetoes({}, "2026-12-24T18:00:00Z") == set()
}

test_another_operation_may_go_on if {
	pause := object.union(request("2026-12-24T18:00:00Z"), {"operation": "pause"})
	reversed := {"freezes": [{"name": "a", "from": "2026-12-25", "until": "2026-12-23"}]}
	calendar.veto == set() with input as pause with data.site.calendar as freeze("2026-12-24", "2026-12-24")
	calendar.veto == set() with input as pause with data.site.calendar as reversed
	calendar.veto == set() with input as pause with data.site.calendar as nightly("UTC", "02:00", "04:00")
}

test_an_operation_that_the_site_names_vetoes if {
	named := {"operations": ["stop", "move", "modify"]}
	asked := {operation: object.union(request("2026-12-24T18:00:00Z"), {"operation": operation}) | some operation in ["stop", "move", "modify", "pause"]}
	every operation, verb in {"stop": "stop", "move": "move", "modify": "change"} {
		reasons := calendar.veto with input as asked[operation] with data.site.calendar as object.union(freeze("2026-12-24", "2026-12-24"), named)
		reasons == {{"message": sprintf("change freeze until 2026-12-25T00:00Z: year end; %s it after that", [verb]), "until": "2026-12-25T00:00:00Z"}}
		outside := calendar.veto with input as asked[operation] with data.site.calendar as object.union(nightly("UTC", "02:00", "04:00"), named)
		outside == {{"message": sprintf("outside its maintenance windows; %s it when the next one opens, at 2026-12-25T02:00Z", [verb]), "until": "2026-12-25T02:00:00Z"}}
	}
	calendar.veto == set() with input as asked.pause with data.site.calendar as object.union(freeze("2026-12-24", "2026-12-24"), named)
}

test_a_freeze_of_dates_holds_whole_days_of_its_zone if {
	berlin := object.union(freeze("2026-12-18", "2027-01-03"), {"time_zone": "Europe/Berlin"})
	vetoes(berlin, "2026-12-17T22:59:59Z") == set()
	vetoes(berlin, "2026-12-17T23:00:00Z") == frozen("2027-01-03T23:00:00Z", "2027-01-03T23:00Z")
	vetoes(berlin, "2027-01-03T22:59:59Z") == frozen("2027-01-03T23:00:00Z", "2027-01-03T23:00Z")
	vetoes(berlin, "2027-01-03T23:00:00Z") == set()
}

test_the_zone_is_utc_unless_it_is_set if {
	vetoes(freeze("2026-12-24", "2026-12-24"), "2026-12-23T23:59:59Z") == set()
	vetoes(freeze("2026-12-24", "2026-12-24"), "2026-12-24T00:00:00Z") == frozen("2026-12-25T00:00:00Z", "2026-12-25T00:00Z")
	vetoes(freeze("2026-12-24", "2026-12-24"), "2026-12-25T00:00:00Z") == set()
}

test_a_freeze_of_local_times if {
	local := object.union(freeze("2026-12-24T18:00", "2026-12-25 06:30:30"), {"time_zone": "America/New_York"})
	vetoes(local, "2026-12-24T22:59:59Z") == set()
	vetoes(local, "2026-12-24T23:00:00Z") == frozen("2026-12-25T11:30:30Z", "2026-12-25T11:30Z")
	vetoes(local, "2026-12-25T11:30:30Z") == set()
}

test_a_freeze_of_moments_is_the_same_in_every_zone if {
	moments := object.union(freeze("2026-12-24T18:00+01:00", "2026-12-24T20:00:00Z"), {"time_zone": "Asia/Tokyo"})
	vetoes(moments, "2026-12-24T16:59:59Z") == set()
	vetoes(moments, "2026-12-24T17:00:00Z") == frozen("2026-12-24T20:00:00Z", "2026-12-24T20:00Z")
	vetoes(moments, "2026-12-24T20:00:00Z") == set()
}

test_a_freeze_may_have_a_zone_of_its_own if {
	own := {"time_zone": "UTC", "freezes": [{"name": "year end", "from": "2026-12-24", "until": "2026-12-24", "time_zone": "Asia/Tokyo"}]}
	vetoes(own, "2026-12-23T15:00:00Z") == frozen("2026-12-24T15:00:00Z", "2026-12-24T15:00Z")
	vetoes(own, "2026-12-24T15:00:00Z") == set()
}

test_a_freeze_that_starts_or_ends_at_a_skipped_time_does_so_at_the_change if {
	zone := {"time_zone": "Europe/Berlin"}
	starts := object.union(freeze("2026-03-29T02:30", "2026-03-29T12:00"), zone)
	vetoes(starts, "2026-03-29T00:59:59Z") == set()
	vetoes(starts, "2026-03-29T01:00:00Z") == frozen("2026-03-29T10:00:00Z", "2026-03-29T10:00Z")
	ends := object.union(freeze("2026-03-28", "2026-03-29T02:30"), zone)
	vetoes(ends, "2026-03-29T00:59:59Z") == frozen("2026-03-29T01:00:00Z", "2026-03-29T01:00Z")
	vetoes(ends, "2026-03-29T01:00:00Z") == set()
}

test_where_a_time_comes_twice_the_freeze_is_the_longer_for_it if {
	twice := object.union(freeze("2026-10-25T02:30", "2026-10-25T02:30"), {"time_zone": "Europe/Berlin"})
	vetoes(twice, "2026-10-25T00:29:59Z") == set()
	vetoes(twice, "2026-10-25T00:30:00Z") == frozen("2026-10-25T01:30:00Z", "2026-10-25T01:30Z")
	vetoes(twice, "2026-10-25T01:30:00Z") == set()
}

test_a_day_whose_midnight_is_skipped_starts_at_the_change if {
	cairo := object.union(freeze("2026-04-24", "2026-04-24"), {"time_zone": "Africa/Cairo"})
	vetoes(cairo, "2026-04-23T21:59:59Z") == set()
	vetoes(cairo, "2026-04-23T22:00:00Z") == frozen("2026-04-24T21:00:00Z", "2026-04-24T21:00Z")
}

test_a_freeze_that_ends_before_it_starts_vetoes if {
	vetoes(freeze("2026-12-24T18:00", "2026-12-24T18:00"), "2026-01-01T00:00:00Z") == {"change freeze year end does not end after it starts; correct data.site.calendar.freezes"}
	vetoes(freeze("2027-01-03", "2026-12-18"), "2026-01-01T00:00:00Z") == {"change freeze year end does not end after it starts; correct data.site.calendar.freezes"}
}

for_domains(domains) := {"freezes": [{"name": "year end", "from": "2026-12-24", "until": "2026-12-24", "domains": domains}]}

test_a_freeze_that_names_domains_is_for_those if {
	vetoes(for_domains(["web-*"]), "2026-12-24T12:00:00Z") == set()
	every domains in [["web-*", "pg-*"], ["pg-primary-01"], ["D19E71514C024AA7A44359213BE70ABA"]] {
		vetoes(for_domains(domains), "2026-12-24T12:00:00Z") == frozen("2026-12-25T00:00:00Z", "2026-12-25T00:00Z")
	}
}

test_the_calendars_domains_count_where_an_item_names_none if {
	web := object.union(freeze("2026-12-24", "2026-12-24"), {"domains": ["web-*"]})
	vetoes(web, "2026-12-24T12:00:00Z") == set()
	own := {"domains": ["web-*"], "freezes": [object.union(web.freezes[0], {"domains": ["pg-*"]})]}
	vetoes(own, "2026-12-24T12:00:00Z") == frozen("2026-12-25T00:00:00Z", "2026-12-25T00:00Z")
}

test_each_freeze_gives_its_reason if {
	two := {"freezes": [
		{"name": "year end", "from": "2026-12-18", "until": "2027-01-03"},
		{"name": "audit (rule none) and 2 more", "from": "2026-12-24", "until": "2026-12-24"},
	]}
	vetoes(two, "2026-12-24T12:00:00Z") == frozen("2027-01-04T00:00:00Z", "2027-01-04T00:00Z") | {{
		"message": `change freeze until 2026-12-25T00:00Z: "audit (rule none) and 2 more"; stop it after that`,
		"until": "2026-12-25T00:00:00Z",
	}}
}

test_a_window_is_open_from_its_start_to_just_before_its_end if {
	sunday := window("UTC", ["sun"], "02:00", "04:00")
	vetoes(sunday, "2026-06-07T01:59:59Z") == closed("2026-06-07T02:00:00Z", "2026-06-07T02:00Z")
	vetoes(sunday, "2026-06-07T02:00:00Z") == set()
	vetoes(sunday, "2026-06-07T03:59:59Z") == set()
	vetoes(sunday, "2026-06-07T04:00:00Z") == closed("2026-06-14T02:00:00Z", "2026-06-14T02:00Z")
	vetoes(sunday, "2026-06-10T12:00:00Z") == closed("2026-06-14T02:00:00Z", "2026-06-14T02:00Z")
}

test_the_day_of_a_window_over_midnight_is_the_one_on_which_it_starts if {
	friday := window("Europe/Berlin", ["fri"], "22:00", "06:00")
	vetoes(friday, "2026-06-05T01:00:00Z") == closed("2026-06-05T20:00:00Z", "2026-06-05T20:00Z")
	vetoes(friday, "2026-06-05T20:00:00Z") == set()
	vetoes(friday, "2026-06-06T03:59:59Z") == set()
	vetoes(friday, "2026-06-06T04:00:00Z") == closed("2026-06-12T20:00:00Z", "2026-06-12T20:00Z")
}

test_a_window_without_days_opens_every_day if {
	vetoes(nightly("UTC", "22:00", "02:00"), "2026-06-05T02:00:00Z") == closed("2026-06-05T22:00:00Z", "2026-06-05T22:00Z")
	vetoes(nightly("UTC", "22:00", "02:00"), "2026-06-05T01:59:59Z") == set()
}

test_a_window_from_a_time_to_the_same_lasts_a_day if {
	every end in ["00:00", "24:00"] {
		saturday := window("America/New_York", ["sat"], "00:00", end)
		vetoes(saturday, "2026-06-06T03:59:59Z") == closed("2026-06-06T04:00:00Z", "2026-06-06T04:00Z")
		vetoes(saturday, "2026-06-06T04:00:00Z") == set()
		vetoes(saturday, "2026-06-07T03:59:59Z") == set()
		vetoes(saturday, "2026-06-07T04:00:00Z") == closed("2026-06-13T04:00:00Z", "2026-06-13T04:00Z")
	}
}

test_the_next_of_several_windows_is_named if {
	several := {"time_zone": "Europe/Berlin", "windows": [
		{"days": ["sat"], "start": "02:00", "end": "04:00"},
		{"days": ["wed"], "start": "02:00", "end": "04:00", "time_zone": "Asia/Tokyo"},
		{"start": "01:00", "end": "02:00", "domains": ["web-*"]},
	]}
	vetoes(several, "2026-06-02T12:00:00Z") == closed("2026-06-02T17:00:00Z", "2026-06-02T17:00Z")
	vetoes(several, "2026-06-02T17:00:00Z") == set()
	vetoes(several, "2026-06-02T19:00:00Z") == closed("2026-06-06T00:00:00Z", "2026-06-06T00:00Z")
}

test_a_domain_that_no_window_names_may_stop if {
	vetoes(object.union(nightly("UTC", "02:00", "04:00"), {"domains": ["web-*"]}), "2026-06-02T12:00:00Z") == set()
}

test_within_a_window_a_freeze_counts if {
	both := object.union(freeze("2026-12-24", "2026-12-24"), nightly("UTC", "02:00", "04:00"))
	vetoes(both, "2026-12-24T03:00:00Z") == frozen("2026-12-25T00:00:00Z", "2026-12-25T00:00Z")
	vetoes(both, "2026-12-24T01:00:00Z") == frozen("2026-12-25T00:00:00Z", "2026-12-25T00:00Z") | closed("2026-12-24T02:00:00Z", "2026-12-24T02:00Z")
	vetoes(both, "2026-12-25T01:00:00Z") == closed("2026-12-25T02:00:00Z", "2026-12-25T02:00Z")
}

test_a_paused_guest_is_named if {
	paused := object.union(request("2026-12-24T12:00:00Z"), {"domain": {"state": "paused", "reason": "ioerror"}})
	reason := {"message": "change freeze until 2026-12-25T00:00Z: year end; stop it after that; the guest is paused (ioerror)", "until": "2026-12-25T00:00:00Z"}
	calendar.veto == {reason} with input as paused with data.site.calendar as freeze("2026-12-24", "2026-12-24")
}

# The settings' schema refuses it; were it there all the same, it would not let pass.
test_a_window_that_never_opens_vetoes if {
	vetoes(window("UTC", [], "02:00", "04:00"), "2026-12-24T12:00:00Z") == {"outside its maintenance windows, and none opens; correct data.site.calendar.windows"}
}

# In Berlin clocks go from 02:00 to 03:00 at 01:00Z on 29 March and from 03:00 to 02:00 at 01:00Z on 25 October.
test_a_window_over_a_change_is_an_hour_shorter_or_longer if {
	night := nightly("Europe/Berlin", "22:00", "06:00")
	vetoes(night, "2026-03-28T21:00:00Z") == set()
	vetoes(night, "2026-03-29T03:59:59Z") == set()
	vetoes(night, "2026-03-29T04:00:00Z") == closed("2026-03-29T20:00:00Z", "2026-03-29T20:00Z")
	vetoes(night, "2026-10-24T20:00:00Z") == set()
	vetoes(night, "2026-10-25T04:59:59Z") == set()
	vetoes(night, "2026-10-25T05:00:00Z") == closed("2026-10-25T21:00:00Z", "2026-10-25T21:00Z")
}

test_a_start_that_is_skipped_is_the_change if {
	berlin := nightly("Europe/Berlin", "02:30", "04:00")
	vetoes(berlin, "2026-03-29T00:59:59Z") == closed("2026-03-29T01:00:00Z", "2026-03-29T01:00Z")
	vetoes(berlin, "2026-03-29T01:00:00Z") == set()
	new_york := nightly("America/New_York", "02:30", "04:00")
	vetoes(new_york, "2026-03-08T06:59:59Z") == closed("2026-03-08T07:00:00Z", "2026-03-08T07:00Z")
	vetoes(new_york, "2026-03-08T07:00:00Z") == set()
	lord_howe := nightly("Australia/Lord_Howe", "02:15", "04:00")
	vetoes(lord_howe, "2026-10-03T15:29:59Z") == closed("2026-10-03T15:30:00Z", "2026-10-03T15:30Z")
	vetoes(lord_howe, "2026-10-03T15:30:00Z") == set()
}

test_an_end_that_is_skipped_is_the_change if {
	berlin := nightly("Europe/Berlin", "01:00", "02:30")
	vetoes(berlin, "2026-03-29T00:59:59Z") == set()
	vetoes(berlin, "2026-03-29T01:00:00Z") == closed("2026-03-29T23:00:00Z", "2026-03-29T23:00Z")
}

test_a_window_that_is_skipped_opens_the_next_time if {
	vetoes(window("Europe/Berlin", ["sun"], "02:10", "02:50"), "2026-03-29T00:59:59Z") == closed("2026-04-05T00:10:00Z", "2026-04-05T00:10Z")
	vetoes(nightly("America/New_York", "02:00", "03:00"), "2026-03-08T07:00:00Z") == closed("2026-03-09T06:00:00Z", "2026-03-09T06:00Z")
	vetoes(nightly("Australia/Lord_Howe", "02:00", "02:30"), "2026-10-03T15:30:00Z") == closed("2026-10-04T15:00:00Z", "2026-10-04T15:00Z")
}

test_a_window_in_an_hour_that_comes_twice_opens_twice if {
	berlin := nightly("Europe/Berlin", "02:15", "02:45")
	vetoes(berlin, "2026-10-25T00:15:00Z") == set()
	vetoes(berlin, "2026-10-25T00:45:00Z") == closed("2026-10-25T01:15:00Z", "2026-10-25T01:15Z")
	vetoes(berlin, "2026-10-25T01:15:00Z") == set()
	vetoes(berlin, "2026-10-25T01:45:00Z") == closed("2026-10-26T01:15:00Z", "2026-10-26T01:15Z")
	new_york := nightly("America/New_York", "01:15", "01:45")
	vetoes(new_york, "2026-11-01T05:45:00Z") == closed("2026-11-01T06:15:00Z", "2026-11-01T06:15Z")
	lord_howe := nightly("Australia/Lord_Howe", "01:35", "01:50")
	vetoes(lord_howe, "2026-04-04T14:50:00Z") == closed("2026-04-04T15:05:00Z", "2026-04-04T15:05Z")
}

test_a_window_that_ends_in_an_hour_that_comes_twice_opens_again_at_the_change if {
	berlin := nightly("Europe/Berlin", "01:00", "02:30")
	vetoes(berlin, "2026-10-25T00:29:59Z") == set()
	vetoes(berlin, "2026-10-25T00:30:00Z") == closed("2026-10-25T01:00:00Z", "2026-10-25T01:00Z")
	vetoes(berlin, "2026-10-25T01:00:00Z") == set()
	vetoes(berlin, "2026-10-25T01:30:00Z") == closed("2026-10-26T00:00:00Z", "2026-10-26T00:00Z")
	new_york := nightly("America/New_York", "00:30", "01:30")
	vetoes(new_york, "2026-11-01T05:30:00Z") == closed("2026-11-01T06:00:00Z", "2026-11-01T06:00Z")
	lord_howe := nightly("Australia/Lord_Howe", "01:00", "01:45")
	vetoes(lord_howe, "2026-04-04T14:45:00Z") == closed("2026-04-04T15:00:00Z", "2026-04-04T15:00Z")
}
