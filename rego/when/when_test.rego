package stopguard.when_test

import data.stopguard.when

test_readable if {
	when.readable("2027-06-30")
	when.readable("2027-06-30T12:00:00+02:00")
	not when.readable("soon")
	not when.readable("")
}

test_passed if {
	when.passed("2026-12-24T18:00:00Z") with input.time as "2026-12-24T18:00:00Z"
	not when.passed("2026-12-24") with input.time as "2026-12-24T23:59:59Z"
	not when.passed("soon") with input.time as "2026-12-24T18:00:00Z"
}

test_shown if {
	when.shown("2027-06-30") == "2027-06-30"
	when.shown("2027-06-30T12:00:00+02:00") == "2027-06-30T10:00Z"
	not when.shown("soon")
}
