package stopguard.rules.shared_disk_test

import data.stopguard.rules.shared_disk

disk(changes) := object.union(
	{
		"target": "vdb",
		"source": "/var/lib/libvirt/images/a.qcow2",
		"read_only": false,
		"shareable": false,
	},
	changes,
)

vetoes(disks) := reasons if {
	request := {"operation": "stop", "domain": {"disks": disks}}
	reasons := shared_disk.veto with input as request with data.site.shared_disk as {"prefixes": ["rbd:cluster/"]}
}

test_a_shareable_disk_vetoes if {
	vetoes([disk({"shareable": true})]) == {`shares disk vdb at "/var/lib/libvirt/images/a.qcow2"; take it out of its cluster first`}
}

test_a_disk_of_a_shared_pool_vetoes if {
	vetoes([disk({"source": "rbd:cluster/a"})]) == {`shares disk vdb at "rbd:cluster/a"; take it out of its cluster first`}
}

test_a_disk_of_its_own_may_stop if {
	vetoes([disk({}), disk({"source": "rbd:volumes/a"})]) == set()
	vetoes([]) == set()
}

test_a_disk_that_it_only_reads_may_stop if {
	vetoes([disk({"shareable": true, "read_only": true})]) == set()
}

test_another_operation_may_go_on if {
	request := {"operation": "pause", "domain": {"disks": [disk({"shareable": true})]}}
	shared_disk.veto == set() with input as request with data.site.shared_disk as {"prefixes": []}
}
