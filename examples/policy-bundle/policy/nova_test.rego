package stopguard.rules.nova_test

import data.stopguard.rules.nova

namespace := "http://openstack.org/xmlns/libvirt/nova/1.1"

element(name, attributes, text, children) := {
	"name": name,
	"namespace": namespace,
	"attributes": attributes,
	"text": text,
	"children": children,
}

instance(flavor, project) := element("instance", {}, "", [
	element("flavor", {"name": flavor}, "", []),
	element("owner", {}, "", [element("project", {}, project, [])]),
])

settings := {
	"projects": [{"name": "billing-prod", "contact": "#billing"}],
	"flavors": [{"prefix": "m1.db", "contact": "#dba"}],
}

vetoes(metadata) := reasons if {
	request := {"operation": "stop", "domain": {"metadata": metadata}}
	reasons := nova.veto with input as request with data.site.nova as settings
}

test_a_protected_project_vetoes if {
	vetoes([instance("m1.small", "billing-prod")]) == {"belongs to project billing-prod; ask #billing first"}
}

test_a_protected_flavor_vetoes if {
	vetoes([instance("m1.db.large", "scratch")]) == {"has flavor m1.db.large; ask #dba first"}
}

test_both_give_their_reasons if {
	count(vetoes([instance("m1.db", "billing-prod")])) == 2
}

test_others_may_stop if {
	vetoes([instance("m1.small", "scratch")]) == set()
	vetoes([]) == set()
}

test_a_project_of_almost_that_name_may_stop if {
	vetoes([instance("m1.small", "billing-prod-test")]) == set()
}

test_another_namespace_says_nothing if {
	foreign := object.union(instance("m1.db", "billing-prod"), {"namespace": "urn:example:x"})
	vetoes([foreign]) == set()
}

test_another_operation_may_go_on if {
	request := {"operation": "pause", "domain": {"metadata": [instance("m1.db", "billing-prod")]}}
	nova.veto == set() with input as request with data.site.nova as settings
}
