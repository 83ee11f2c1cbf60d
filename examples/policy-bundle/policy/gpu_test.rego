package stopguard.rules.gpu_test

import data.stopguard.rules.gpu

vetoes(devices) := reasons if {
	request := {"operation": "stop", "domain": {"hostdevs": devices}}
	reasons := gpu.veto with input as request with data.site.gpu as {"devices": ["0000:65:00.0"]}
}

test_a_gpu_vetoes if {
	vetoes([{"type": "pci", "source": "0000:65:00.0"}]) == {"holds the GPU at 0000:65:00.0; drain its jobs first"}
}

test_other_devices_may_stop if {
	vetoes([{"type": "pci", "source": "0000:65:00.1"}, {"type": "usb", "source": "0000:65:00.0"}]) == set()
	vetoes([]) == set()
}

test_another_operation_may_go_on if {
	request := {"operation": "pause", "domain": {"hostdevs": [{"type": "pci", "source": "0000:65:00.0"}]}}
	gpu.veto == set() with input as request with data.site.gpu as {"devices": ["0000:65:00.0"]}
}
