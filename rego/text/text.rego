# METADATA
# title: text
# description: What the library's rules share when they write a reason. A site's rules may import it as well.
package stopguard.text

# METADATA
# title: quoted
# description: |
#   Text that somebody else wrote, such as a domain's owner, made fit for a reason: as it is where it cannot be taken for
#   our own words, else in quotes; cut to 200 bytes.
quoted(text) := short if {
	short := _cut(text)
	_harmless(short)
} else := sprintf("%q", [_cut(text)])

# To make a pattern of all the world's letters ready takes longer than the rest of a decision, and most text needs none.
_harmless(text) if {
	regex.match(`^[0-9A-Za-z][0-9A-Za-z _.,/@+#%=-]*$`, text)
} else if {
	regex.match(`^[\pL\pM\pN][\pL\pM\pN _.,/@+#%=-]*$`, text)
}

# The longest beginning of text that has at most 200 bytes. Two hexadecimal digits stand for a byte.
_cut(text) := start if {
	start := substring(text, 0, 200)
	count(hex.encode(start)) <= 400
} else := substring(text, 0, max({n |
	some n in numbers.range(0, 200)
	count(hex.encode(substring(text, 0, n))) <= 400
}))
