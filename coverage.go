package stopguard

// A Sight is what an enforcement point can do about a way in which a domain goes down.
type Sight string

const (
	Vetoable   Sight = "vetoable"   // it is asked before, and a refusal holds
	Detectable Sight = "detectable" // it learns of it afterwards
	Invisible  Sight = "invisible"  // it never learns of it
)

// A Way is one way in which a domain ends, pauses, leaves its host or loses its protection, and what can be done about it.
type Way struct {
	What string // such as "destroy"
	How  string // an example, such as "virsh destroy"

	// Hook is the hook on a libvirt that calls it for stop, which no released one does.
	Hook Sight

	// Release is the same hook on any libvirt, which calls it for release, after the fact.
	Release Sight

	// Gate is a gate on libvirt's socket, of any libvirt, without a hook beside it, which would see what Release says too.
	Gate Sight
}

// Coverage gives every way that we know of. Those that end at libvirt's stop operation were measured with libvirt 9.0.0
// and the patch proposed in December 2025; the caller may change the slice.
//
// What is vetoable is asked about; whether it is refused is for the rules: those of the library answer for a stop, and for
// what else a mark or the site's settings name. Of an autodestroy connection the hook is asked about the end, and a gate
// about the start, for the end is no request.
func Coverage() []Way {
	return []Way{
		{"destroy", "virsh destroy", Vetoable, Detectable, Vetoable},
		{"close of an autodestroy connection", "virsh start --autodestroy, then its end", Vetoable, Detectable, Vetoable},
		{"shutdown request to the guest", "virsh shutdown", Detectable, Detectable, Vetoable},
		{"power-off by the guest itself", "poweroff in the guest", Detectable, Detectable, Invisible},
		{"crash of the guest or of QEMU", "kernel panic, kill -9", Detectable, Detectable, Invisible},
		{"save to a file", "virsh save, virsh managedsave", Detectable, Detectable, Vetoable},
		{"dump that ends the domain", "virsh dump --crash", Detectable, Detectable, Vetoable},
		{"revert to a snapshot", "virsh snapshot-revert", Detectable, Detectable, Vetoable},
		{"migration away", "virsh migrate", Detectable, Detectable, Vetoable},
		{"quit through the monitor", "virsh qemu-monitor-command", Detectable, Detectable, Vetoable},
		{"destroy by root, past the gate", "virsh destroy at libvirt's own socket", Vetoable, Detectable, Invisible},
		{"host loses power", "", Invisible, Invisible, Invisible},
		{"reset, reboot or pause", "virsh reset, virsh reboot, virsh suspend", Invisible, Invisible, Vetoable},
		{"mark taken away, undefine, rename", "virsh metadata --remove, virsh undefine", Invisible, Invisible, Vetoable},
	}
}
