package stopguard.rules.critical_test

import data.stopguard.rules.critical

vetoes(request) := reasons if {
	settings := {"prefixes": ["pg-"], "contact": "#dba"}
	reasons := critical.veto with input as request with data.site.critical as settings
}

test_a_critical_domain_vetoes if {
	vetoes({"operation": "stop", "domain": {"name": "pg-01"}}) == {"is critical; ask #dba first"}
}

test_another_domain_may_stop if {
	vetoes({"operation": "stop", "domain": {"name": "web-01"}}) == set()
}

test_another_operation_may_go_on if {
	vetoes({"operation": "pause", "domain": {"name": "pg-01"}}) == set()
}
