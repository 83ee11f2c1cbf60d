# METADATA
# title: state
# description: What the library's rules say of a domain whose guest lives but does not run as it should.
package stopguard.state

# METADATA
# title: note
# description: The end of a reason, which names a state that a stop may have been meant to end; "" for every other state.
note := sprintf("; the guest is paused (%s)", [input.domain.reason]) if {
	input.domain.state == "paused"
	input.domain.reason in {"ioerror", "watchdog", "migration"}
} else := ""
