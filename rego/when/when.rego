# METADATA
# title: when
# description: |
#   Points in time as people write them in a mark or a setting, for a site's rules to import: an RFC 3339 time, or a date,
#   which means that day's end in UTC. What is not text fails, so that the rule vetoes.
package stopguard.when

# METADATA
# title: readable
# description: Whether text is a point in time between the years 1970 and 9999.
readable(text) := stopguard.readable(text)

# METADATA
# title: passed
# description: Whether the point in time lies at or before input.time. False for text that is not readable.
default passed(_) := false

passed(text) := stopguard.passed(text, input.time) if stopguard.readable(text)

# METADATA
# title: shown
# description: The point in time as a reason shows it, such as 2027-06-30T12:00Z. Undefined for text that is not readable.
shown(text) := stopguard.shown(text) if stopguard.readable(text)
