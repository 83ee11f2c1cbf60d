package stopguard.rules.hold_test

import data.stopguard.rules.hold

backup := {
	"holder": "root",
	"pid": 4711,
	"reason": "nightly backup",
	"since": "2026-11-28T02:00:00Z",
	"until": "",
	"operations": ["stop", "reset"],
}

asked_to(operation, holds) := reasons if {
	reasons := hold.veto with input as {"operation": operation, "domain": {"holds": holds}}
}

test_a_held_domain_must_not_be_stopped if {
	asked_to("stop", [backup]) == {"held by root (pid 4711) since 2026-11-28T02:00:00Z: nightly backup"}
	asked_to("reset", [backup]) == asked_to("stop", [backup])
}

test_a_hold_may_end_by_itself if {
	asked_to("stop", [object.union(backup, {"until": "2026-11-28T14:00:00Z"})]) == {{
		"message": "held by root (pid 4711) since 2026-11-28T02:00:00Z: nightly backup",
		"until": "2026-11-28T14:00:00Z",
	}}
}

test_every_holder_is_named if {
	other := object.union(backup, {"holder": "backup", "pid": 4712})
	count(asked_to("stop", [backup, other])) == 2
}

test_a_domain_without_a_hold_may_be_stopped if {
	asked_to("stop", []) == set()
	asked_to("pause", [backup]) == set()
}
