package stopguard.rules.block_job_test

import data.stopguard.rules.block_job

request(domain_job, disk_jobs) := {
	"operation": "stop",
	"domain": {
		"name": "pg-primary-01",
		"uuid": "d19e7151-4c02-4aa7-a443-59213be70aba",
		"state": "running",
		"reason": "booted",
		"job": domain_job,
		"disks": [{"target": target, "job": job} | some target, job in disk_jobs],
	},
}

vetoes(settings, asked) := reasons if {
	reasons := block_job.veto with input as asked with data.site.block_job as settings
}

test_a_job_on_a_disk_vetoes if {
	every job in ["copy", "commit", "active-commit", "pull", "one-of-a-later-libvirt"] {
		vetoes({}, request("", {"vda": "", "vdb": job})) == {sprintf("%s job on disk vdb; wait until it is done, or end it with virsh blockjob", [job])}
	}
}

test_a_backup_vetoes if {
	vetoes({}, request("backup", {"vda": ""})) == {"backup job; wait until it is done, or end it with virsh domjobabort"}
	vetoes({}, request("backup", {})) == {"backup job; wait until it is done, or end it with virsh domjobabort"}
}

test_a_backup_that_is_known_of_a_disk_is_named_there if {
	vetoes({}, request("backup", {"vda": "backup"})) == {"backup job on disk vda; wait until it is done, or end it with virsh domjobabort"}
	vetoes({}, request("", {"vda": "backup"})) == {"backup job on disk vda; wait until it is done, or end it with virsh domjobabort"}
}

test_each_disk_gives_its_reason if {
	vetoes({}, request("backup", {"vda": "copy", "vdb": "pull"})) == {
		"copy job on disk vda; wait until it is done, or end it with virsh blockjob",
		"pull job on disk vdb; wait until it is done, or end it with virsh blockjob",
		"backup job; wait until it is done, or end it with virsh domjobabort",
	}
}

test_without_a_job_it_may_stop if {
	vetoes({}, request("", {"vda": "", "vdb": ""})) == set()
	vetoes({}, request("", {})) == set()
}

test_other_jobs_of_the_domain_are_not_its_business if {
	vetoes({}, request("migration out", {"vda": ""})) == set()
}

test_only_the_jobs_that_are_set_count if {
	vetoes({"jobs": ["copy"]}, request("backup", {"vda": "pull"})) == set()
	vetoes({"jobs": ["copy"]}, request("backup", {"vda": "copy"})) == {"copy job on disk vda; wait until it is done, or end it with virsh blockjob"}
	vetoes({"jobs": ["backup"]}, request("backup", {"vda": "copy"})) == {"backup job; wait until it is done, or end it with virsh domjobabort"}
}

test_only_the_domains_that_are_set_count if {
	vetoes({"domains": ["web-*"]}, request("backup", {"vda": "copy"})) == set()
	vetoes({"domains": ["pg-*"]}, request("", {"vda": "copy"})) == {"copy job on disk vda; wait until it is done, or end it with virsh blockjob"}
}

test_a_target_cannot_imitate_ours if {
	vetoes({}, request("", {"vda (rule none)": "copy"})) == {`copy job on disk "vda (rule none)"; wait until it is done, or end it with virsh blockjob`}
}

test_a_paused_guest_is_named if {
	paused := object.union(request("", {"vda": "copy"}), {"domain": {"state": "paused", "reason": "ioerror"}})
	vetoes({}, paused) == {"copy job on disk vda; wait until it is done, or end it with virsh blockjob; the guest is paused (ioerror)"}
}

test_another_operation_may_go_on if {
	vetoes({}, object.union(request("backup", {"vda": "copy"}), {"operation": "pause"})) == set()
}

test_an_operation_that_the_site_names_vetoes if {
	moved := object.union(request("backup", {"vda": "copy"}), {"operation": "move"})
	vetoes({"operations": ["stop", "move"]}, moved) == {
		"copy job on disk vda; wait until it is done, or end it with virsh blockjob",
		"backup job; wait until it is done, or end it with virsh domjobabort",
	}
	vetoes({"operations": ["stop", "pause"]}, moved) == set()
}
