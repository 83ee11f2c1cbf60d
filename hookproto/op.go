package hookproto

import "slices"

// Op is an operation as libvirt names it in a hook's second argument. The zero
// value is no operation.
type Op string

// The operations of libvirt's domain drivers. OpStop is in no released libvirt: it
// comes with the patch proposed in December 2025.
const (
	OpPrepare   Op = "prepare"   // OpPrepare: before a domain's resources are set up.
	OpStart     Op = "start"     // OpStart: before the emulator starts.
	OpStarted   Op = "started"   // OpStarted: after the emulator has started.
	OpStop      Op = "stop"      // OpStop: before a domain is stopped, or after its process died.
	OpStopped   Op = "stopped"   // OpStopped: after a domain has stopped.
	OpRelease   Op = "release"   // OpRelease: after a domain's resources are released.
	OpMigrate   Op = "migrate"   // OpMigrate: before an incoming migration.
	OpRestore   Op = "restore"   // OpRestore: before a saved domain is restored.
	OpReconnect Op = "reconnect" // OpReconnect: the daemon restarted and found the guest running.
	OpAttach    Op = "attach"    // OpAttach: a running emulator is taken over.
)

// Operation says when a driver calls its hook and what the hook's exit status does.
type Operation struct {
	Driver  string // Driver is the hook file's name: "qemu", "lxc", "libxl" or "bhyve".
	Op      Op     // Op is the second argument.
	SubOp   string // SubOp is the third argument: "begin" or "end".
	NonZero string // NonZero is what an exit status other than 0 does.
	Refuse  bool   // Refuse is whether this package ever answers it with anything but 0.
}

const (
	abortsStart = "aborts the start"
	ignored     = "is ignored"
	killsGuest  = "kills the running guest"
)

// operations holds what libvirt's virhook.h and the proposed patch define. What the exit
// status does was measured with libvirt 9.0.0 for qemu, except for attach; for the other
// drivers reconnect was read in the source, and the rest is taken to be as for qemu.
var operations = []Operation{
	{"qemu", OpPrepare, "begin", abortsStart, false},
	{"qemu", OpStart, "begin", abortsStart, false},
	{"qemu", OpStarted, "begin", abortsStart, false},
	{"qemu", OpStop, "begin", "aborts the stop", true},
	{"qemu", OpStopped, "end", ignored, false},
	{"qemu", OpRelease, "end", ignored, false},
	{"qemu", OpMigrate, "begin", "aborts the incoming migration; stdout replaces the XML", false},
	{"qemu", OpRestore, "begin", "aborts the restore; stdout replaces the XML", false},
	{"qemu", OpReconnect, "begin", killsGuest, false},
	{"qemu", OpAttach, "begin", "aborts the attach", false},
	{"lxc", OpPrepare, "begin", abortsStart, false},
	{"lxc", OpStart, "begin", abortsStart, false},
	{"lxc", OpStarted, "begin", abortsStart, false},
	{"lxc", OpStopped, "end", ignored, false},
	{"lxc", OpRelease, "end", ignored, false},
	{"lxc", OpReconnect, "begin", killsGuest, false},
	{"libxl", OpPrepare, "begin", abortsStart, false},
	{"libxl", OpStart, "begin", abortsStart, false},
	{"libxl", OpStarted, "begin", abortsStart, false},
	{"libxl", OpStopped, "end", ignored, false},
	{"libxl", OpRelease, "end", ignored, false},
	{"libxl", OpMigrate, "begin", "aborts the incoming migration; stdout replaces the XML", false},
	{"libxl", OpReconnect, "begin", "makes libvirt give the guest up; older ones kill it", false},
	{"bhyve", OpPrepare, "begin", abortsStart, false},
	{"bhyve", OpStart, "begin", abortsStart, false},
	{"bhyve", OpStarted, "begin", abortsStart, false},
	{"bhyve", OpStopped, "end", ignored, false},
	{"bhyve", OpRelease, "end", ignored, false},
}

// Operations returns the table of every operation of every domain driver, in a slice of
// the caller's own. The hooks of networks and of the daemon itself are not in it: they
// are about no domain, and this package answers them with 0.
func Operations() []Operation { return slices.Clone(operations) }
