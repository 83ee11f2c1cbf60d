package stopguard.rules.automation_test

import data.stopguard.rules.automation

vetoes(operation, name, unit) := reasons if {
	reasons := automation.veto with input as {
		"operation": operation,
		"domain": {"name": name, "uuid": "16e14a01-2b11-40de-a128-75e3f4a5fe12"},
		"caller": {"unit": unit},
	}
}

test_no_ci_job_and_no_agent_stops_a_production_domain if {
	vetoes("stop", "prod-db-01", "gitlab-runner.service") == {"gitlab-runner.service asks for it; a person must, or get it a ticket"}
	vetoes("delete", "prod-db-01", "agent-7.scope") == {"agent-7.scope asks for it; a person must, or get it a ticket"}
}

test_other_domains_operations_and_callers_go_on if {
	vetoes("stop", "test-db-01", "gitlab-runner.service") == set()
	vetoes("pause", "prod-db-01", "gitlab-runner.service") == set()
	vetoes("stop", "prod-db-01", "session-3.scope") == set()
	vetoes("stop", "prod-db-01", "") == set()
}
