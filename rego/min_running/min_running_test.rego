package stopguard.rules.min_running_test

import data.stopguard.rules.min_running

service(role) := {
	"name": "service",
	"namespace": "urn:example:service:1",
	"attributes": {"role": role, "team": "a"},
	"text": "resolver",
	"children": [],
}

uuid(name) := substring(sprintf("%s%032d", [hex.encode(name), 0]), 0, 32)

domain(name, state) := {"name": name, "uuid": uuid(name), "state": state, "stopping": false, "metadata": []}

request(state, domains) := {
	"operation": "stop",
	"host": {"name": "kvm-07", "domains": domains},
	"domain": {"name": "dns-01", "uuid": uuid("dns-01"), "metadata": [], "state": state, "reason": "ioerror"},
}

this := domain("dns-01", "running")

another := domain("dns-02", "running")

resolvers(min) := {"name": "resolvers", "members": ["dns-*"], "min": min}

vetoes(groups, asked) := reasons if {
	reasons := min_running.veto with input as asked with data.site.min_running as {"groups": groups}
}

needs(min, left) := {sprintf("group resolvers needs %d running on this host, and stopping this one leaves %d; start another first", [min, left])}

test_the_last_one_that_is_needed_vetoes if {
	vetoes([resolvers(1)], request("running", [this])) == needs(1, 0)
	vetoes([resolvers(2)], request("running", [this, another])) == needs(2, 1)
}

test_while_enough_others_run_it_may_stop if {
	vetoes([resolvers(1)], request("running", [this, another])) == set()
	vetoes([resolvers(2)], request("running", [this, another, domain("dns-03", "running")])) == set()
}

test_it_does_not_count_itself_whether_it_is_listed_or_not if {
	vetoes([resolvers(1)], request("running", [])) == needs(1, 0)
	vetoes([resolvers(1)], request("running", [another])) == set()
	vetoes([resolvers(1)], request("running", [object.union(another, {"uuid": this.uuid})])) == needs(1, 0)
	vetoes([resolvers(1)], request("running", [object.union(another, {"name": this.name})])) == needs(1, 0)
}

test_domains_of_no_group_may_stop if {
	vetoes([object.union(resolvers(1), {"members": ["web-*"]})], request("running", [this])) == set()
	vetoes([], request("running", [this])) == set()
}

test_domains_of_other_groups_do_not_count if {
	vetoes([resolvers(1)], request("running", [this, domain("web-01", "running")])) == needs(1, 0)
}

test_only_others_that_are_known_to_run_count if {
	every state in ["paused", "pmsuspended", "shutdown", "shutoff", "crashed", "nostate", "blocked", ""] {
		vetoes([resolvers(1)], request("running", [this, domain("dns-02", state)])) == needs(1, 0)
	}
}

test_one_that_is_being_stopped_does_not_count if {
	vetoes([resolvers(1)], request("running", [this, object.union(another, {"stopping": true})])) == needs(1, 0)
}

test_a_stop_that_was_allowed_before_is_judged_anew if {
	going := object.union(this, {"stopping": true})
	vetoes([resolvers(1)], request("running", [going])) == needs(1, 0)
	vetoes([resolvers(1)], request("running", [going, another])) == set()
}

test_one_whose_guest_is_over_may_stop if {
	every state in ["shutdown", "shutoff", "crashed"] {
		vetoes([resolvers(1)], request(state, [domain("dns-01", state)])) == set()
	}
}

test_one_that_could_go_on_counts if {
	every state in ["running", "pmsuspended", "nostate", "blocked", ""] {
		vetoes([resolvers(1)], request(state, [domain("dns-01", state)])) == needs(1, 0)
	}
}

test_a_paused_guest_is_named if {
	vetoes([resolvers(1)], request("paused", [])) == {"group resolvers needs 1 running on this host, and stopping this one leaves 0; start another first; the guest is paused (ioerror)"}
}

test_each_group_gives_its_reason if {
	groups := [
		resolvers(2),
		{"name": "all (rule none)", "members": ["*"], "min": 3},
		{"name": "pair", "members": ["dns-01", "dns-02"], "min": 1},
	]
	vetoes(groups, request("running", [this, another])) == needs(2, 1) | {`group "all (rule none)" needs 3 running on this host, and stopping this one leaves 1; start another first`}
}

test_members_by_metadata if {
	asked := object.union(request("running", [this, another]), {"domain": {"metadata": [service("dns")]}})
	served := object.union(request("running", [object.union(another, {"metadata": [service("dns")]})]), {"domain": {"metadata": [service("dns")]}})
	every metadata in [
		{"namespace": "urn:example:service:1"},
		{"namespace": "urn:example:service:1", "name": "service"},
		{"namespace": "urn:example:service:1", "text": "resolver"},
		{"namespace": "urn:example:service:1", "attributes": {"role": "dns"}},
	] {
		vetoes([{"name": "resolvers", "metadata": metadata, "min": 1}], asked) == needs(1, 0)
		vetoes([{"name": "resolvers", "metadata": metadata, "min": 1}], served) == set()
	}
}

test_other_metadata_makes_no_member if {
	asked := object.union(request("running", []), {"domain": {"metadata": [service("dns")]}})
	every metadata in [
		{"namespace": "urn:example:service:2"},
		{"namespace": "urn:example:service:1", "name": "role"},
		{"namespace": "urn:example:service:1", "text": "web"},
		{"namespace": "urn:example:service:1", "attributes": {"role": "dns", "team": "b"}},
		{"namespace": "urn:example:service:1", "attributes": {"colour": "red"}},
	] {
		vetoes([{"name": "resolvers", "metadata": metadata, "min": 1}], asked) == set()
	}
}

test_members_and_metadata_both_make_members if {
	group := object.union(resolvers(1), {"metadata": {"namespace": "urn:example:service:1"}})
	vetoes([group], request("running", [this])) == needs(1, 0)
	vetoes([group], request("running", [object.union(domain("web-01", "running"), {"metadata": [service("dns")]})])) == set()
}

test_another_operation_may_go_on if {
	vetoes([resolvers(1)], object.union(request("running", [this]), {"operation": "pause"})) == set()
}

test_an_operation_that_the_site_names_vetoes if {
	every operation, doing in {"stop": "stopping", "pause": "pausing", "reset": "resetting", "move": "moving"} {
		asked := object.union(request("running", [this]), {"operation": operation})
		reasons := min_running.veto with input as asked with data.site.min_running as {"groups": [resolvers(1)], "operations": ["stop", operation]}
		reasons == {sprintf("group resolvers needs 1 running on this host, and %s this one leaves 0; start another first", [doing])}
	}
	moved := object.union(request("running", [this]), {"operation": "move"})
	min_running.veto == set() with input as moved with data.site.min_running as {"groups": [resolvers(1)], "operations": ["stop", "pause"]}
}
