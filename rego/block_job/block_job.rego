# METADATA
# title: block_job
# description: |
#   A domain must not be stopped while a job copies data of its disks: a copy, a commit, an active commit, a pull or a
#   backup. A stop would lose the job's work, and make the backup or the copy useless.
# custom:
#   reads:
#     - data.site.block_job.operations
#     - data.site.block_job.domains
#     - data.site.block_job.jobs
package stopguard.rules.block_job

import data.stopguard.state

veto contains message if {
	some disk in input.domain.disks
	disk.job != ""
	message := _message(disk.job, sprintf(" on disk %s", [stopguard.quoted(disk.target)]))
}

veto contains message if {
	input.domain.job == "backup"
	every disk in input.domain.disks {
		disk.job != "backup"
	}
	message := _message("backup", "")
}

_message(job, where) := message if {
	input.operation in object.get(data.site.block_job, "operations", ["stop"])
	stopguard.match(object.get(data.site.block_job, "domains", ["*"]), input.domain.name, input.domain.uuid)
	job in object.get(data.site.block_job, "jobs", [job]) # without the setting also one that a later libvirt may know
	message := sprintf("%s job%s; wait until it is done, or end it with virsh %s%s", [
		stopguard.quoted(job), where, object.get({"backup": "domjobabort"}, job, "blockjob"), state.note,
	])
}
