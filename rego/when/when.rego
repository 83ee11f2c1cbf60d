# METADATA
# title: when
# description: |
#   Points in time as people write them in a mark or a setting: an RFC 3339 time, or a date, which means that day's end in
#   UTC. No built-in is asked about text that it would fail on.
package stopguard.when

# METADATA
# title: readable
# description: Whether text is a point in time between the years 1970 and 9999.
default readable(_) := false

readable(text) if _kind(text) != ""

# METADATA
# title: passed
# description: Whether the point in time lies at or before input.time. False for text that is not readable.
default passed(_) := false

passed(text) if {
	_kind(text) == "date"
	substring(input.time, 0, 10) > text
}

passed(text) if {
	_kind(text) == "time"
	time.parse_rfc3339_ns(input.time) >= time.parse_rfc3339_ns(text)
}

# METADATA
# title: shown
# description: |
#   The point in time as a reason shows it: 2027-06-30 for a date and for midnight in UTC, else 2027-06-30T12:00Z.
#   Undefined for text that is not readable.
shown(text) := substring(text, 0, 10) if {
	_kind(text) in {"date", "far"}
} else := time.format([ns, "UTC", "2006-01-02"]) if {
	_kind(text) == "time"
	ns := time.parse_rfc3339_ns(text)
	ns % 86400000000000 == 0
} else := time.format([time.parse_rfc3339_ns(text), "UTC", "2006-01-02T15:04Z"]) if {
	_kind(text) == "time"
}

# Nanoseconds since 1970 end in the year 2262, yet people write 9999-12-31 for good.
_kind(text) := "far" if {
	_has_form(text)
	text >= "2260"
} else := "date" if {
	count(text) == 10
	_exists(text)
} else := "time" if {
	count(text) > 10
	_exists(text)
} else := ""

_has_form(text) if regex.match(_form, text)

_form := `^[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])(?:T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9]))?$`

# The 31st of February comes out as another day.
_exists(text) if {
	_has_form(text)
	text >= "1970"
	date := substring(text, 0, 10)
	[year, month, day] := [to_number(trim_left(part, "0")) | some part in split(date, "-")]
	ns := time.add_date(0, year - 1970, month - 1, day - 1)
	time.format([ns, "UTC", "2006-01-02"]) == date
}
