package system.log_test

import data.system.log

always := {
	"/input/domain/metadata",
	"/input/domain/metadata_error",
	"/input/domain/title",
	"/input/domain/description",
	"/input/xml",
}

test_what_an_owner_wrote_is_left_out if {
	log.mask == always with input as {"input": {"host": {"domains": []}}}
}

test_the_metadata_of_every_running_domain_is_left_out if {
	expected := always | {"/input/host/domains/0/metadata", "/input/host/domains/1/metadata"}
	log.mask == expected with input as {"input": {"host": {"domains": [{"name": "a"}, {"name": "b"}]}}}
}

test_a_command_is_left_out_where_there_is_one if {
	log.mask == always | {"/input/request/command"} with input as {"input": {"host": {"domains": []}, "request": {"command": "set_password vnc x"}}}
	log.mask == always with input as {"input": {"host": {"domains": []}, "request": {"command": ""}}}
}
