package stopguard.operation_test

import data.stopguard.operation

test_a_stop_is_always_among_them if {
	every named in [["stop"], ["reset"], [], ["stop", "reset"]] {
		operation.among(named) with input.operation as "stop"
	}
}

test_others_are_among_them_where_they_are_named if {
	operation.among(["stop", "reset"]) with input.operation as "reset"
	not operation.among(["stop", "reset"]) with input.operation as "pause"
	not operation.among([]) with input.operation as "reset"
}

test_every_operation_has_its_verb if {
	every name, verb in {"stop": "stop", "pause": "pause", "reset": "reset", "move": "move", "delete": "delete", "modify": "change"} {
		operation.verb == verb with input.operation as name
	}
}
