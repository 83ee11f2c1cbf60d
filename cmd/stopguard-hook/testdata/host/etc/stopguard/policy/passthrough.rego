# METADATA
# title: passthrough
# description: A domain with one of the host's devices passed through cannot be moved away first, so it must not be stopped.
package stopguard.rules.passthrough

veto contains message if {
	input.operation == "stop"
	some device in input.domain.hostdevs
	message := sprintf("holds the host's device %s; ask in #hardware before stopping it", [device.source])
}
