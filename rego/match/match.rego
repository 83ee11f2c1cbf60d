# METADATA
# title: match
# description: What the library's rules share when settings name domains. A site's rules may import it as well.
package stopguard.match

# METADATA
# title: one_of
# description: |
#   Whether an entry is the domain's name or its UUID, in any way of writing it, or a glob that its name matches: * is any
#   text, ? any character, [a-z] one of these, [^a-z] none of these, and \ makes the next character an ordinary one. An entry
#   without *, ? and [ is no glob, and a name with such characters matches itself as well. What is not well formed is for the
#   settings' schemas to refuse.
default one_of(_, _, _) := false

one_of(entries, name, _) if name in entries

one_of(entries, _, uuid) if {
	digits := _digits(uuid)
	regex.match(`^[0-9a-f]{32}$`, digits)
	some entry in entries
	_digits(entry) == digits
}

one_of(entries, name, _) if {
	some entry in entries
	regex.match(`[*?\[]`, entry)
	regex.match(_pattern(entry), name)
}

_digits(uuid) := lower(replace(uuid, "-", ""))

# glob.match reads braces, ! and ** in ways of its own, and fails on what is not well formed; the protected list is matched
# with Go's path.Match, and whoever writes both should have to know one way only.
_pattern(glob) := sprintf(`(?s)\A%s\z`, [concat("", [_part(part) |
	some part in regex.find_n(`(?s)\\.|\[\^?(?:\\.|[^\\\]])+\]|.`, glob, -1)
])])

_part("*") := ".*"

_part("?") := "."

_part(class) := sprintf(`[%s\x00%s]`, [_not(class), concat("", members)]) if {
	_is_class(class)
	members := [_member(parts[1], parts[2]) |
		some parts in regex.find_all_string_submatch_n(
			`(?s)(\\.|[^\\])(?:-(\\.|[^\\]))?`,
			trim_prefix(substring(class, 1, count(class) - 2), "^"),
			-1,
		)
	]
}

_part(character) := _ordinary(character) if {
	not character in {"*", "?"}
	not _is_class(character)
}

# A lone [ is a class that does not end.
_is_class(part) if {
	startswith(part, "[")
	part != "["
}

# No name holds the character 0, which stands first so that a class may be empty.
_not(class) := "^" if startswith(class, "[^")

_not(class) := "" if not startswith(class, "[^")

_member(character, "") := _ordinary(character)

_member(from, to) := sprintf("%s-%s", [_ordinary(from), _ordinary(to)]) if {
	to != ""
	_character(from) <= _character(to)
}

# As in Go, a range that runs backwards holds nothing.
_member(from, to) := "" if {
	to != ""
	_character(from) > _character(to)
}

_ordinary(written) := regex.replace(_character(written), `[[:punct:]]`, `\$0`)

# With or without a \ before it.
_character(written) := substring(written, count(written) - 1, 1)
