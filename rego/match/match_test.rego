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

test_a_uuid_may_be_written_in_any_way if {
	matches("d19e7151-4c02-4aa7-a443-59213be70aba", "x")
	matches("D19E71514C024AA7A44359213BE70ABA", "x")
	not matches("16e14a01-2b11-40de-a128-75e3f4a5fe12", "x")
}

test_a_set_will_do_as_well_as_a_list if {
	match.one_of({"web-*", "pg-*"}, "pg-primary-01", uuid)
}

test_globs if {
	matches("pg-*", "pg-primary-01")
	matches(`db\[1]*`, "db[1]")
	not matches("pg-[^0-3]", "pg-2")
}
