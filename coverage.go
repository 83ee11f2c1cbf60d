package stopguard

import "github.com/stopguard/stopguard/policy"

// A Capability is the power of an enforcement point over a path.
type Capability string

const (
	Vetoable   Capability = "vetoable"   // it is asked beforehand, and libvirt obeys a refusal
	Detectable Capability = "detectable" // it is told afterwards
	Invisible  Capability = "invisible"  // it is never told
)

// A Path is one way in which a domain ends, pauses, leaves its host or loses its protection, with
// the capability of each enforcement point.
type Path struct {
	What string // such as "destroy"
	How  string // an example, such as "virsh destroy"

	// Hook is the capability of a hook that libvirt calls for stop. No released libvirt does.
	Hook Capability

	// Release is the capability of a hook that libvirt calls for release, after the fact. Every
	// libvirt does.
	Release Capability

	// Gate is the capability of a gate on the socket of any libvirt, without a hook beside it. A
	// hook beside it adds the capability in Release.
	Gate Capability

	// Operation is the operation that the rules decide about, or "" if they are not asked. A list
	// entry or a plain mark refuses a stop and a delete, and another operation only if its
	// operations name it.
	Operation string
}

// Coverage returns every known path. Those that end at libvirt's stop operation were measured with
// libvirt 9.0.0 and the patch proposed in December 2025. The caller may change the slice.
//
// A vetoable path is decided; the rules determine whether it is refused. For an autodestroy
// connection the hook decides about the end, and a gate about the start: the end is not a call.
func Coverage() []Path {
	const stop, remove, pause = policy.OperationStop, policy.OperationDelete, policy.OperationPause
	const reset, move, modify = policy.OperationReset, policy.OperationMove, policy.OperationModify
	return []Path{
		{"destroy", "virsh destroy", Vetoable, Detectable, Vetoable, stop},
		{"close of an autodestroy connection", "virsh start --autodestroy, then its end", Vetoable, Detectable, Vetoable, stop},
		{"the same, of a domain protected after its start", "a mark set on a guest that ends with a connection", Vetoable, Detectable, Detectable, stop},
		{"shutdown request to the guest", "virsh shutdown", Detectable, Detectable, Vetoable, stop},
		{"power-off by the guest itself", "poweroff in the guest", Detectable, Detectable, Invisible, ""},
		{"crash of the guest or of QEMU", "kernel panic, kill -9", Detectable, Detectable, Invisible, ""},
		{"save to a file", "virsh save, virsh managedsave", Detectable, Detectable, Vetoable, stop},
		{"dump that ends the domain", "virsh dump --crash", Detectable, Detectable, Vetoable, stop},
		{"revert to a snapshot", "virsh snapshot-revert", Detectable, Detectable, Vetoable, stop},
		{"command to QEMU's monitor or the guest agent", "virsh qemu-monitor-command, virsh set-user-password", Detectable, Detectable, Vetoable, stop},
		{"destroy by root, past the gate", "virsh destroy at libvirt's own socket", Vetoable, Detectable, Invisible, stop},
		{"host loses power", "", Invisible, Invisible, Invisible, ""},
		{"undefine, also of a running domain", "virsh undefine", Invisible, Invisible, Vetoable, remove},
		{"saved state thrown away", "virsh managedsave-remove, virsh start --force-boot", Invisible, Invisible, Vetoable, remove},
		{"restore or create over it, without its mark", "virsh create, virsh restore --xml", Invisible, Invisible, Vetoable, remove},
		{"migration that leaves no definition", "virsh migrate --undefinesource without --persistent", Detectable, Detectable, Vetoable, remove},
		{"volume deleted, wiped, overwritten or made smaller", "virsh vol-delete, vol-wipe, vol-upload, blockresize", Invisible, Invisible, Vetoable, remove},
		{"pool deleted or formatted with its volumes", "virsh pool-delete, pool-build", Invisible, Invisible, Vetoable, remove},
		{"migration away", "virsh migrate", Detectable, Detectable, Vetoable, move},
		{"reset or reboot", "virsh reset, virsh reboot", Invisible, Invisible, Vetoable, reset},
		{"pause", "virsh suspend, a snapshot with memory", Invisible, Invisible, Vetoable, pause},
		{"pause because a disk's place is full", "virsh snapshot-create --disk-only, virsh blockcopy", Invisible, Invisible, Invisible, ""},
		{"mark taken away, rename", "virsh metadata --remove, virsh domrename", Invisible, Invisible, Vetoable, modify},
		{"disk detached; snapshot or checkpoint deleted; commit, pull, pivot", "virsh detach-disk, snapshot-delete, blockcommit", Invisible, Invisible, Vetoable, modify},
		{"volume of an unknown user destroyed", "by a link, below an overlay in no pool, of a domain that the client may not see", Invisible, Invisible, Invisible, ""},
		{"volume destroyed at virtstoraged's own socket", "virsh -c storage:///system vol-delete", Invisible, Invisible, Invisible, ""},
		{"disk's data destroyed past libvirt", "rm, lvremove, qemu-img", Invisible, Invisible, Invisible, ""},
		{"program of another domain's definition", "virsh define with an emulator or QEMU's own arguments", Invisible, Invisible, Invisible, ""},
	}
}
