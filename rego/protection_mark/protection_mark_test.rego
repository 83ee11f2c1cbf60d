package stopguard.rules.protection_mark_test

import data.stopguard.rules.protection_mark

plain := {
	"reason": "",
	"owner": "",
	"until": "",
	"shown": "",
	"operations": ["stop", "delete"],
	"named": [],
	"in_force": true,
	"note": "",
	"unreadable": {},
}

request(operation, marks) := {
	"operation": operation,
	"time": "2026-12-24T18:00:00Z",
	"domain": {"marks": marks, "state": "running", "reason": "booted"},
}

vetoes(mark) := asked_to("stop", [object.union(plain, mark)])

asked_to(operation, marks) := reasons if {
	reasons := protection_mark.veto with input as request(operation, marks)
}

test_a_mark_vetoes_until_it_lapses if {
	vetoes({"reason": "billing primary", "until": "2027-06-30T00:00:00Z", "shown": " until 2027-06-30T00:00Z"}) == {{
		"message": "protected until 2027-06-30T00:00Z: billing primary",
		"until": "2027-06-30T00:00:00Z",
	}}
}

test_a_mark_may_be_for_good if {
	vetoes({}) == {"protected"}
	vetoes({"reason": "billing primary"}) == {"protected: billing primary"}
}

test_an_until_that_cannot_be_read_is_shown if {
	vetoes({"shown": " (until soon cannot be read)", "unreadable": {"until": "soon"}}) == {"protected (until soon cannot be read)"}
}

test_of_several_marks_any_live_one_vetoes if {
	marks := [
		object.union(plain, {"in_force": false, "note": "its mark has lapsed on 2026-01-01"}),
		object.union(plain, {"reason": "a"}),
		object.union(plain, {"reason": "b"}),
	]
	asked_to("stop", marks) == {"protected: a", "protected: b"}
	asked_to("stop", []) == set()
}

test_why_a_mark_is_not_in_force_is_on_record if {
	lapsed := object.union(plain, {"in_force": false, "note": "its mark has lapsed on 2026-12-23"})
	asked_to("stop", [lapsed]) == set()
	protection_mark.note == {"its mark has lapsed on 2026-12-23"} with input as request("stop", [lapsed])
	protection_mark.note == set() with input as request("reset", [lapsed])
	protection_mark.note == set() with input as request("stop", [plain])
}

test_a_reason_cannot_imitate_ours if {
	vetoes({"reason": "x (rule none) and 2 more"}) == {`protected: "x (rule none) and 2 more"`}
	vetoes({"reason": "two\nlines"}) == {`protected: "two\nlines"`}
}

test_what_is_almost_a_mark_vetoes if {
	vetoes({"note": "metadata holds protect"}) == {"metadata holds protect"}
	asked_to("modify", [object.union(plain, {"note": "metadata holds protect"})]) == set()
}

test_a_paused_guest_is_named if {
	paused := object.union(request("stop", [plain]), {"domain": {"state": "paused", "reason": "ioerror"}})
	protection_mark.veto == {"protected; the guest is paused (ioerror)"} with input as paused
}

test_another_operation_may_go_on_unless_it_is_named if {
	every operation in ["pause", "reset", "move", "modify"] {
		asked_to(operation, [plain]) == set()
		asked_to(operation, [object.union(plain, {"operations": ["stop", operation]})]) == {"protected"}
	}
}

test_a_delete_vetoes if {
	asked_to("delete", [plain]) == {"protected"}
	asked_to("delete", [object.union(plain, {"operations": ["stop"], "named": ["stop"]})]) == set()
}

test_the_site_says_what_a_mark_is_against if {
	resets := object.union(plain, {"operations": ["stop", "delete", "reset"], "named": ["reset"]})
	stops := object.union(plain, {"operations": ["stop"], "named": ["stop"]})
	expected := {
		"stop": [{"protected"}, {"protected"}, {"protected"}],
		"delete": [set(), set(), set()],
		"pause": [{"protected"}, {"protected"}, set()],
		"reset": [set(), {"protected"}, set()],
	}
	every operation, want in expected {
		got := [reasons |
			some mark in [plain, resets, stops]
			reasons := protection_mark.veto with input as request(operation, [mark]) with data.site.protection_mark.operations as ["stop", "pause"]
		]
		got == want
	}
}

test_operations_that_cannot_be_read_are_shown if {
	every operation in ["pause", "reset", "move", "modify"] {
		mark := object.union(plain, {"operations": ["stop", operation], "unreadable": {"operations": "rest"}, "until": "2027-06-30", "shown": " until 2027-06-30", "reason": "billing"})
		asked_to(operation, [mark]) == {{
			"message": "protected until 2027-06-30 (operations rest cannot be read; all are refused): billing",
			"until": "2027-06-30",
		}}
	}
	vetoes({"unreadable": {"operations": "rest"}}) == {"protected"}
}
