package stopguard.rules.protected_list_test

import data.stopguard.rules.protected_list

request(listed) := {
	"operation": "stop",
	"domain": {"name": "pg-primary-01", "listed": listed, "state": "running", "reason": "booted"},
}

test_a_listed_name_vetoes if {
	protected_list.veto == {"listed in /etc/libvirt/protected-domains; take it off the list to stop it"} with input as request(["pg-primary-01"])
}

test_a_glob_is_named if {
	protected_list.veto == {"listed in /etc/libvirt/protected-domains as pg-*; take it off the list to stop it"} with input as request(["pg-*"])
}

test_of_several_entries_the_first_is_named if {
	protected_list.veto == {"listed in /etc/libvirt/protected-domains; take it off the list to stop it"} with input as request(["pg-primary-01", "pg-*"])
}

test_an_unlisted_domain_may_stop if {
	protected_list.veto == set() with input as request([])
}

test_another_operation_may_go_on if {
	every operation in ["pause", "reset", "move", "modify"] {
		protected_list.veto == set() with input as object.union(request(["pg-primary-01"]), {"operation": operation})
	}
}

test_an_operation_that_the_site_names_vetoes if {
	every operation, verb in {"stop": "stop", "delete": "delete", "pause": "pause", "reset": "reset", "move": "move", "modify": "change"} {
		protected_list.veto == {sprintf("listed in /etc/libvirt/protected-domains; take it off the list to %s it", [verb])} with input as object.union(request(["pg-primary-01"]), {"operation": operation})
			with data.site.protected_list.operations as ["stop", operation]
	}
}

test_an_operation_that_the_site_does_not_name_may_go_on if {
	protected_list.veto == set() with input as object.union(request(["pg-primary-01"]), {"operation": "pause"})
		with data.site.protected_list.operations as ["stop", "reset"]
	protected_list.veto == set() with input as object.union(request(["pg-primary-01"]), {"operation": "delete"})
		with data.site.protected_list.operations as ["stop"]
}

test_a_delete_vetoes if {
	protected_list.veto == {"listed in /etc/libvirt/protected-domains; take it off the list to delete it"} with input as object.union(request(["pg-primary-01"]), {"operation": "delete"})
}
