# METADATA
# title: zone
# description: |
#   Local time in the zones of the IANA database, across every change of their clocks. A moment is in nanoseconds since 1970;
#   so is what clocks show, called wall, as though they stood in UTC. No built-in gives a zone's distance from UTC: it is
#   what clocks show at a moment less that moment. A zone that the database does not have makes the built-ins fail.
#
#   It relies on clocks being changed at whole minutes and not twice within two days, which is so in every zone from the year
#   2000 on.
package stopguard.zone

# METADATA
# title: clock
# description: What clocks in the zone show at a moment, in whole seconds.
clock(moment, zone) := time.parse_ns(_layout, time.format([moment, zone, _layout]))

# METADATA
# title: first
# description: The moment at which clocks first show wall or, where they skip it, a later time.
first(wall, zone) := min(shown(wall, zone) | _skipped(wall, zone))

# METADATA
# title: last
# description: The moment from which on clocks show no time before wall. It is later than first if they show wall twice.
last(wall, zone) := max({moment |
	some moment in shown(wall, zone)
	clock(moment - 1000000000, zone) < wall
} | _skipped(wall, zone))

# METADATA
# title: shown
# description: The moments at which clocks show wall. One as a rule; none where they skip it, two where they are put back.
shown(wall, zone) := {moment |
	some distance in _distances(wall, zone)
	moment := wall - distance
	clock(moment, zone) == wall
}

# METADATA
# title: put_back
# description: The moment at which clocks that show wall twice are put back; an empty set for any other wall.
put_back(wall, zone) := {change |
	moments := shown(wall, zone)
	count(moments) == 2
	change := min({moment |
		some moment in _minutes(min(moments), max(moments))
		clock(moment, zone) < wall
	})
}

_layout := "2006-01-02T15:04:05"

# The zone's distances from UTC a day before and a day after wall: between them clocks change once at most.
_distances(wall, zone) := {distance |
	some moment in [wall - 86400000000000, wall + 86400000000000]
	distance := clock(moment, zone) - moment
}

_skipped(wall, zone) := {change |
	count(shown(wall, zone)) == 0
	distances := _distances(wall, zone)
	change := min({moment |
		some moment in _minutes(wall - max(distances), wall - min(distances))
		clock(moment, zone) >= wall
	})
}

_minutes(from, until) := [moment |
	some minute in numbers.range(0, floor((until - from) / 60000000000) + 1)
	moment := (from - (from % 60000000000)) + (minute * 60000000000)
]
