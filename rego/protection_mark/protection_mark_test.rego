package stopguard.rules.protection_mark_test

import data.stopguard.rules.protection_mark

mark(attributes) := {
	"name": "protection",
	"namespace": "urn:stopguard:protection:1",
	"attributes": attributes,
	"text": "",
	"children": [],
}

request(metadata) := {
	"operation": "stop",
	"time": "2026-12-24T18:00:00Z",
	"domain": {
		"uuid": "d19e7151-4c02-4aa7-a443-59213be70aba",
		"metadata": metadata,
		"metadata_error": "",
		"state": "running",
		"reason": "booted",
	},
}

vetoes(attributes) := reasons if {
	reasons := protection_mark.veto with input as request([mark(attributes)])
}

notes(attributes) := messages if {
	messages := protection_mark.note with input as request([mark(attributes)])
}

test_a_mark_vetoes_until_it_lapses if {
	vetoes({"reason": "billing primary", "until": "2027-06-30T00:00:00Z"}) == {{
		"message": "protected until 2027-06-30: billing primary",
		"until": "2027-06-30T00:00:00Z",
	}}
}

test_a_date_means_the_end_of_that_day if {
	vetoes({"reason": "freeze", "until": "2026-12-24"}) == {{
		"message": "protected until 2026-12-24: freeze",
		"until": "2026-12-24",
	}}
}

test_a_time_of_day_is_shown_in_utc if {
	vetoes({"until": "2026-12-24T20:30:00+01:00"}) == {{
		"message": "protected until 2026-12-24T19:30Z",
		"until": "2026-12-24T20:30:00+01:00",
	}}
}

test_a_mark_may_be_for_good if {
	vetoes({}) == {"protected"}
	vetoes({"reason": "billing primary"}) == {"protected: billing primary"}
	vetoes({"until": "9999-12-31"}) == {{"message": "protected until 9999-12-31", "until": "9999-12-31"}}
}

test_a_mark_whose_until_cannot_be_read_never_lapses if {
	vetoes({"until": "tomorrow"}) == {"protected (until tomorrow cannot be read)"}
	vetoes({"until": "2025-02-30"}) == {"protected (until 2025-02-30 cannot be read)"}
	vetoes({"until": "2025-01-01T24:00:00Z"}) == {`protected (until "2025-01-01T24:00:00Z" cannot be read)`}
	vetoes({"until": " 2025-01-01"}) == {`protected (until " 2025-01-01" cannot be read)`}
}

test_a_lapsed_mark_lets_pass if {
	vetoes({"until": "2026-12-23"}) == set()
	vetoes({"until": "2026-12-24T18:00:00Z"}) == set()
	vetoes({"until": "2026-12-24T18:00:00.000+00:00"}) == set()
	vetoes({"until": "2026-12-24T18:59:59+01:00"}) == set()
}

test_that_a_mark_has_lapsed_is_on_record if {
	notes({"until": "2026-12-23"}) == {"its mark has lapsed on 2026-12-23"}
	notes({"until": "2026-12-25"}) == set()
}

test_that_a_clones_mark_is_inert_is_on_record if {
	message := "its mark was made for the domain 16e14a01-2b11-40de-a128-75e3f4a5fe12, which this one is a clone of, and is inert"
	notes({"domain": "16e14a01-2b11-40de-a128-75e3f4a5fe12"}) == {message}
	notes({"domain": "d19e7151-4c02-4aa7-a443-59213be70aba"}) == set()
}

test_in_a_clone_the_mark_is_inert if {
	vetoes({"domain": "16e14a01-2b11-40de-a128-75e3f4a5fe12"}) == set()
	vetoes({"domain": "16E14A012B1140DEA12875E3F4A5FE12"}) == set()
}

test_the_uuid_may_be_written_in_either_way if {
	vetoes({"domain": "d19e7151-4c02-4aa7-a443-59213be70aba"}) == {"protected"}
	vetoes({"domain": "D19E71514C024AA7A44359213BE70ABA"}) == {"protected"}
}

test_what_is_no_uuid_binds_the_mark_to_no_other_domain if {
	vetoes({"domain": "pg-primary-01"}) == {"protected"}
	vetoes({"domain": ""}) == {"protected"}
}

test_unknown_attributes_are_ignored if {
	vetoes({"colour": "red", "reason": "billing primary"}) == {"protected: billing primary"}
}

test_of_several_marks_any_live_one_vetoes if {
	metadata := [mark({"until": "2026-01-01"}), mark({"reason": "a"}), mark({"reason": "b"})]
	protection_mark.veto == {"protected: a", "protected: b"} with input as request(metadata)
}

test_a_reason_cannot_imitate_ours if {
	vetoes({"reason": "x (rule none) and 2 more"}) == {`protected: "x (rule none) and 2 more"`}
	vetoes({"reason": `say "no"`}) == {`protected: "say \"no\""`}
	vetoes({"reason": "two\nlines"}) == {`protected: "two\nlines"`}
}

test_a_long_reason_is_cut_to_200_bytes if {
	long := concat("", ["é" | some _ in numbers.range(1, 500)])
	some message in vetoes({"reason": long})
	message == concat("", ["protected: ", substring(long, 0, 100)])
}

test_an_almost_right_mark_vetoes if {
	wrong := object.union(mark({}), {"namespace": "urn:stopguard:protection"})
	protection_mark.veto == {`metadata holds protection in "urn:stopguard:protection", which is not protection in urn:stopguard:protection:1; correct or remove it`} with input as request([wrong])
}

test_a_mistyped_element_vetoes if {
	wrong := object.union(mark({}), {"name": "protect"})
	protection_mark.veto == {`metadata holds protect in "urn:stopguard:protection:1", which is not protection in urn:stopguard:protection:1; correct or remove it`} with input as request([wrong])
}

test_unreadable_metadata_vetoes if {
	unreadable := object.union(request([]), {"domain": {"metadata_error": "line 7"}})
	protection_mark.veto == {"its metadata, title or description cannot be read, and may hold a mark; look at it with virsh dumpxml"} with input as unreadable
}

test_a_paused_guest_is_named if {
	paused := object.union(request([mark({})]), {"domain": {"state": "paused", "reason": "ioerror"}})
	protection_mark.veto == {"protected; the guest is paused (ioerror)"} with input as paused
}

test_other_metadata_lets_pass if {
	nova := {"name": "instance", "namespace": "http://openstack.org/xmlns/libvirt/nova/1.1", "attributes": {}, "text": "", "children": [mark({})]}
	protection_mark.veto == set() with input as request([nova])
	protection_mark.veto == set() with input as request([])
}

asked_to(operation, metadata) := reasons if {
	reasons := protection_mark.veto with input as object.union(request(metadata), {"operation": operation})
}

others := ["pause", "reset", "move", "tamper"]

test_another_operation_may_go_on if {
	every operation in others {
		asked_to(operation, [mark({})]) == set()
		asked_to(operation, [mark({"operations": ""})]) == set()
		asked_to(operation, [mark({"operations": "stop"})]) == set()
	}
}

test_an_operation_that_the_mark_names_vetoes if {
	every operation in others {
		asked_to(operation, [mark({"operations": operation, "reason": "billing primary"})]) == {"protected: billing primary"}
		asked_to(operation, [mark({"operations": concat("", ["\tstop  ", operation, "\n"]), "until": "2027-06-30"})]) == {{"message": "protected until 2027-06-30", "until": "2027-06-30"}}
	}
	asked_to("pause", [mark({"operations": "stop reset"})]) == set()
}

test_a_stop_is_refused_whatever_the_mark_names if {
	every operations in ["", "reset", "none", "stop reset", "-stop", "x y z"] {
		vetoes({"operations": operations, "reason": "billing primary"}) == {"protected: billing primary"}
	}
}

test_operations_that_cannot_be_read_are_all if {
	every operation in others {
		asked_to(operation, [mark({"operations": "stop rest", "until": "2027-06-30", "reason": "billing"})]) == {{
			"message": "protected until 2027-06-30 (operations stop rest cannot be read; all are refused): billing",
			"until": "2027-06-30",
		}}
		asked_to(operation, [mark({"operations": "reset;move"})]) == {`protected (operations "reset;move" cannot be read; all are refused)`}
		asked_to(operation, [mark({"operations": "Reset"})]) == {"protected (operations Reset cannot be read; all are refused)"}
		asked_to(operation, [mark({"operations": "stopreset"})]) == {"protected (operations stopreset cannot be read; all are refused)"}
	}
}

test_a_lapsed_or_a_clones_mark_protects_against_nothing if {
	every operation in others {
		asked_to(operation, [mark({"operations": operation, "until": "2026-12-23"})]) == set()
		asked_to(operation, [mark({"operations": operation, "domain": "16e14a01-2b11-40de-a128-75e3f4a5fe12"})]) == set()
	}
}

test_what_is_almost_a_mark_vetoes_what_it_names_and_may_be_corrected if {
	wrong := object.union(mark({"operations": "reset tamper"}), {"name": "protect"})
	count(asked_to("stop", [wrong])) == 1
	count(asked_to("reset", [wrong])) == 1
	asked_to("pause", [wrong]) == set()
	asked_to("tamper", [wrong]) == set()
}

test_unreadable_metadata_may_be_corrected if {
	unreadable := object.union(request([]), {"domain": {"metadata_error": "line 7"}})
	every operation in ["pause", "reset", "move"] {
		reasons := protection_mark.veto with input as object.union(unreadable, {"operation": operation})
		count(reasons) == 1
	}
	protection_mark.veto == set() with input as object.union(unreadable, {"operation": "tamper"})
}
