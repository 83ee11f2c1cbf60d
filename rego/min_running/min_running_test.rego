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

# The same for a group of the fleet.

billing(min) := {"name": "pg", "scope": "fleet", "members": ["pg-*"], "min": min}

member(name, host) := {"name": name, "uuid": uuid(name), "host": host, "since": "2026-11-28T12:00:00Z", "reserved": false}

in_fleet(members) := {
	"operation": "stop",
	"host": {"name": "kvm-07", "domains": []},
	"domain": {"name": "pg-1", "uuid": uuid("pg-1"), "metadata": [], "state": "running", "reason": ""},
	"fleet": {"groups": [{"name": "pg", "error": "", "members": members}]},
}

test_the_last_ones_of_the_fleet_veto if {
	vetoes([billing(2)], in_fleet([member("pg-1", "kvm-01"), member("pg-2", "kvm-07")])) == {"group pg needs 2 running in the fleet, and stopping this one leaves 1 (pg-2 on kvm-07); start another first"}
	vetoes([billing(2)], in_fleet([member("pg-1", "kvm-01")])) == {"group pg needs 2 running in the fleet, and stopping this one leaves 0; start another first"}
	vetoes([billing(1)], in_fleet([member("pg-1", "kvm-01"), member("pg-2", "kvm-07")])) == set()
}

test_those_that_are_left_are_named if {
	others := [member(sprintf("pg-%d", [n]), "kvm-02") | some n in numbers.range(2, 5)]
	vetoes([billing(5)], in_fleet(others)) == {"group pg needs 5 running in the fleet, and stopping this one leaves 4 (pg-2 on kvm-02, pg-3 on kvm-02, pg-4 on kvm-02, pg-5 on kvm-02); start another first"}
}

test_one_that_is_reserved_does_not_count if {
	going := object.union(member("pg-2", "kvm-07"), {"reserved": true})
	vetoes([billing(1)], in_fleet([going])) == {"group pg needs 1 running in the fleet, and stopping this one leaves 0; start another first"}
}

test_in_the_fleet_it_does_not_count_itself if {
	vetoes([billing(1)], in_fleet([object.union(member("pg-2", "kvm-07"), {"uuid": uuid("pg-1")})])) != set()
	vetoes([billing(1)], in_fleet([object.union(member("pg-2", "kvm-07"), {"name": "pg-1"})])) != set()
}

test_a_fleet_that_is_not_known_vetoes if {
	asked := object.union(in_fleet([]), {"fleet": {"groups": [{"name": "pg", "error": "etcd at https://10.0.0.1:2379: no answer in time", "members": []}]}})
	vetoes([billing(2)], asked) == {"group pg needs 2 running in the fleet, and how many run is not known: etcd at https://10.0.0.1:2379: no answer in time; see stopguard fleet, or let it go with a ticket"}
	every fleet in [{"groups": []}, {"groups": [{"name": "other", "error": "", "members": []}]}] {
		vetoes([billing(2)], object.union(in_fleet([]), {"fleet": fleet})) == {"group pg needs 2 running in the fleet, and how many run is not known: the fleet was not asked; see stopguard fleet, or let it go with a ticket"}
	}
	vetoes([billing(2)], object.remove(in_fleet([]), ["fleet"])) != set()
}

test_what_is_in_no_group_of_the_fleet_may_stop_without_it if {
	unasked := object.union(request("running", [this, another]), {"fleet": {"groups": []}})
	vetoes([billing(2), resolvers(1)], unasked) == set()
	vetoes([billing(2), resolvers(2)], unasked) == needs(2, 1)
}

test_members_on_the_host_alone_do_not_count_in_the_fleet if {
	asked := object.union(in_fleet([]), {"host": {"name": "kvm-07", "domains": [domain("pg-2", "running")]}})
	vetoes([billing(1)], asked) != set()
}

test_one_of_the_fleet_whose_guest_is_over_may_stop if {
	every state in ["shutdown", "shutoff", "crashed"] {
		asked := object.union(in_fleet([]), {"domain": {"name": "pg-1", "uuid": uuid("pg-1"), "metadata": [], "state": state, "reason": ""}})
		vetoes([billing(1)], asked) == set()
	}
}
