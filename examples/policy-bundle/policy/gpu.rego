# METADATA
# title: gpu
# description: A domain that holds a GPU of data.site.gpu.devices must not be stopped while jobs may run on it.
package stopguard.rules.gpu

veto contains message if {
	input.operation == "stop"
	some device in input.domain.hostdevs
	device.type == "pci"
	device.source in data.site.gpu.devices
	message := sprintf("holds the GPU at %s; drain its jobs first", [device.source])
}
