package stopguard

// A Sight is what an enforcement point can do about a way in which a domain goes down.
type Sight string

const (
	Vetoable   Sight = "vetoable"   // it is asked before, and a refusal holds
	Detectable Sight = "detectable" // it learns of it afterwards
	Invisible  Sight = "invisible"  // it never learns of it
)

// A Way is one way in which a domain ends, pauses or leaves its host, and what can be done about it.
type Way struct {
	What string // such as "destroy"
	How  string // an example, such as "virsh destroy"

	// Hook is the hook on a libvirt that calls it for stop, which no released one does.
	Hook Sight

	// Release is the same hook on any libvirt, which calls it for release, after the fact.
	Release Sight
}

// Coverage gives every way that we know of. Those that end at libvirt's stop operation were measured with libvirt 9.0.0
// and the patch proposed in December 2025; the caller may change the slice.
func Coverage() []Way {
	return []Way{
		{"destroy", "virsh destroy", Vetoable, Detectable},
		{"close of an autodestroy connection", "virsh start --autodestroy, then its end", Vetoable, Detectable},
		{"shutdown request to the guest", "virsh shutdown", Detectable, Detectable},
		{"power-off by the guest itself", "poweroff in the guest", Detectable, Detectable},
		{"crash of the guest or of QEMU", "kernel panic, kill -9", Detectable, Detectable},
		{"save to a file", "virsh save, virsh managedsave", Detectable, Detectable},
		{"dump that ends the domain", "virsh dump --crash", Detectable, Detectable},
		{"revert to a snapshot", "virsh snapshot-revert", Detectable, Detectable},
		{"migration away", "virsh migrate", Detectable, Detectable},
		{"quit through the monitor", "virsh qemu-monitor-command", Detectable, Detectable},
		{"host loses power", "", Invisible, Invisible},
		{"reset, reboot or pause", "virsh reset, virsh reboot, virsh suspend", Invisible, Invisible},
	}
}
