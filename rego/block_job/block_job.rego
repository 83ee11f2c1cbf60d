# METADATA
# title: block_job
# description: |
#   A domain must not be stopped while a job copies data of its disks: a copy, a commit, an active commit, a pull or a
#   backup. A stop would lose the job's work, and make the backup or the copy useless.
#
#   The same holds for the other operations that the settings name.
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
	input.operation in _operations
	_is_for_the_domain
	_counts(disk.job)
	message := sprintf("%s job on disk %s; %s%s", [stopguard.quoted(disk.job), stopguard.quoted(disk.target), _instead(disk.job), state.note])
}

veto contains message if {
	input.domain.job == "backup"
	input.operation in _operations
	_is_for_the_domain
	_counts("backup")
	not _is_known_of_a_disk("backup")
	message := sprintf("backup job; %s%s", [_instead("backup"), state.note])
}

_operations := object.get(data.site.block_job, "operations", ["stop"])

_is_for_the_domain if {
	domains := object.get(data.site.block_job, "domains", ["*"])
	stopguard.match(domains, input.domain.name, input.domain.uuid)
}

# Without the setting a job that a later libvirt may know counts, too.
_counts(job) if job in object.get(data.site.block_job, "jobs", [job])

_is_known_of_a_disk(job) if {
	some disk in input.domain.disks
	disk.job == job
}

_instead(job) := sprintf("wait until it is done, or end it with virsh %s", [object.get({"backup": "domjobabort"}, job, "blockjob")])
