package call

import (
	"fmt"
	"math/bits"
)

// flagNames are the names of flags from the lowest bit on: libvirt's constants without their common
// prefix. "" is an unused flag.
type flagNames []string

var (
	destroyFlags        = flagNames{"graceful", "remove_logs"}
	shutdownFlags       = flagNames{"acpi_power_btn", "guest_agent", "initctl", "signal", "paravirt"}
	saveFlags           = flagNames{"bypass_cache", "running", "paused", "reset_nvram"}
	dumpFlags           = flagNames{"crash", "live", "bypass_cache", "reset", "memory_only"}
	snapshotFlags       = flagNames{"redefine", "current", "no_metadata", "halt", "disk_only", "reuse_ext", "quiesce", "atomic", "live", "validate"}
	revertFlags         = flagNames{"running", "paused", "force", "reset_nvram"}
	startFlags          = flagNames{"paused", "autodestroy", "bypass_cache", "force_boot", "validate", "reset_nvram"}
	undefineFlags       = flagNames{"managed_save", "snapshots_metadata", "nvram", "keep_nvram", "checkpoints_metadata", "tpm", "keep_tpm"}
	impactFlags         = flagNames{"live", "config"}
	defineFlags         = flagNames{"validate"}
	monitorFlags        = flagNames{"hmp"}
	abortFlags          = flagNames{"postcopy"}
	passwordFlags       = flagNames{"encrypted"}
	sshKeysFlags        = flagNames{"append", "remove"}
	volumeResizeFlags   = flagNames{"allocate", "delta", "shrink"}
	poolBuildFlags      = flagNames{"repair", "resize", "no_overwrite", "overwrite"}
	poolCreateFlags     = flagNames{"build", "build_overwrite", "build_no_overwrite"}
	blockResizeFlags    = flagNames{"bytes", "capacity", "extend"}
	snapshotDeleteFlags = flagNames{"children", "metadata_only", "children_only"}
	commitFlags         = flagNames{"shallow", "delete", "active", "relative", "bandwidth_bytes"}
	pullFlags           = flagNames{"", "", "", "", "", "", "bandwidth_bytes"}
	rebaseFlags         = flagNames{"shallow", "reuse_ext", "copy_raw", "copy", "relative", "copy_dev", "bandwidth_bytes"}
	jobAbortFlags       = flagNames{"async", "pivot"}
	vcpuFlags           = flagNames{"live", "config", "maximum", "guest", "hotpluggable"}
	migrationFlags      = flagNames{"live", "peer2peer", "tunnelled", "persist_dest", "undefine_source", "paused", "non_shared_disk",
		"non_shared_inc", "change_protection", "unsafe", "offline", "compressed", "abort_on_error", "auto_converge", "rdma_pin_all",
		"postcopy", "tls", "parallel", "non_shared_synchronous_writes", "postcopy_resume", "zerocopy"}
)

// of returns the names of the flags that are set, and a hexadecimal number for an unknown one. It
// is never nil.
func (names flagNames) of(flags uint64) []string {
	set := []string{}
	for ; flags != 0; flags &= flags - 1 {
		bit := bits.TrailingZeros64(flags)
		if bit < len(names) && names[bit] != "" {
			set = append(set, names[bit])
		} else {
			set = append(set, fmt.Sprintf("%#x", uint64(1)<<bit))
		}
	}
	return set
}
