package stopguard.match_test

import data.stopguard.match

uuid := "d19e7151-4c02-4aa7-a443-59213be70aba"

matches(entry, name) if match.one_of([entry], name, uuid)

test_a_name_matches_itself if {
	matches("pg-primary-01", "pg-primary-01")
	not matches("pg-primary-01", "pg-primary-010")
	not matches("pg-primary-01", "PG-PRIMARY-01")
	not match.one_of([], "pg-primary-01", uuid)
}

test_one_of_several_entries_is_enough if {
	match.one_of(["web-*", "pg-*"], "pg-primary-01", uuid)
	not match.one_of(["web-*", "dns-*"], "pg-primary-01", uuid)
}

test_a_name_that_looks_like_a_glob_matches_itself if {
	matches("db[1]", "db[1]")
	matches("db[1]", "db1")
	matches("db[1", "db[1")
	matches("*", "*")
	matches(`a\b`, `a\b`)
}

test_a_uuid_may_be_written_in_any_way if {
	matches("d19e7151-4c02-4aa7-a443-59213be70aba", "x")
	matches("D19E71514C024AA7A44359213BE70ABA", "x")
	not matches("16e14a01-2b11-40de-a128-75e3f4a5fe12", "x")
	not match.one_of(["", "-"], "x", "")
}

test_globs if {
	matches("*", "pg-primary-01")
	matches("pg-*", "pg-primary-01")
	matches("*-01", "pg-primary-01")
	matches("pg-??", "pg-01")
	matches("?", "é")
	matches("*", "two\nlines")
	not matches("pg-*", "xpg-1")
	not matches("pg-?", "pg-01")
}

test_classes if {
	matches("pg-[0-3]", "pg-2")
	matches("pg-[^0-3]", "pg-4")
	matches("pg-[ab^]", "pg-^")
	matches(`[\]\-]`, "-")
	matches("[[]x", "[x")
	not matches("pg-[0-3]", "pg-4")
	not matches("pg-[^0-3]", "pg-2")
	not matches("[!a]", "b")
	not matches(`[\d]`, "1")
}

test_what_means_something_elsewhere_is_ordinary_here if {
	matches("{a,b}.(x)*", "{a,b}.(x)y")
	matches(`a\*b*`, "a*bc")
	not matches("{a,b}*", "a")
	not matches("a.c*", "abc")
	not matches(`a\*b*`, "axbc")
}

test_a_range_that_runs_backwards_holds_nothing if {
	matches("pg-[z-ab]", "pg-b")
	matches("pg-[^z-a]", "pg-b")
	not matches("pg-[z-a]", "pg-b")
}

test_a_bracket_that_is_not_closed_is_ordinary if {
	matches("pg-[*", "pg-[1")
	not matches("pg-[*", "pg-1")
}
