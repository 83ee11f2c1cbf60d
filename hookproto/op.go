package hookproto

import "slices"

// Op is an operation as libvirt names it in a hook's second argument. The zero value is not an
// operation.
type Op string

// The operations of libvirt's domain drivers. A released libvirt does not have OpStop: it comes
// with the patch proposed in December 2025.
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

// Operation describes when a driver calls its hook and the effect of the hook's exit status. This
// package answers every operation but OpStop with 0.
type Operation struct {
	Driver  string // Driver is the hook file's name: "qemu", "lxc", "libxl" or "bhyve".
	Op      Op     // Op is the second argument.
	SubOp   string // SubOp is the third argument: "begin" or "end".
	NonZero string // NonZero is the effect of an exit status other than 0.
}

const (
	abortsStart = "aborts the start"
	ignored     = "is ignored"
	killsGuest  = "kills the running guest"
)

// operations lists the definitions of libvirt's virhook.h and of the proposed patch. The effects of
// the exit status were measured with libvirt 9.0.0 for qemu, except for attach. For the other
// drivers, reconnect was read in the source, and the rest is assumed to be as for qemu.
var operations = []Operation{
	{"qemu", OpPrepare, "begin", abortsStart},
	{"qemu", OpStart, "begin", abortsStart},
	{"qemu", OpStarted, "begin", abortsStart},
	{"qemu", OpStop, "begin", "aborts the stop"},
	{"qemu", OpStopped, "end", ignored},
	{"qemu", OpRelease, "end", ignored},
	{"qemu", OpMigrate, "begin", "aborts the incoming migration; stdout replaces the XML"},
	{"qemu", OpRestore, "begin", "aborts the restore; stdout replaces the XML"},
	{"qemu", OpReconnect, "begin", killsGuest},
	{"qemu", OpAttach, "begin", "aborts the attach"},
	{"lxc", OpPrepare, "begin", abortsStart},
	{"lxc", OpStart, "begin", abortsStart},
	{"lxc", OpStarted, "begin", abortsStart},
	{"lxc", OpStopped, "end", ignored},
	{"lxc", OpRelease, "end", ignored},
	{"lxc", OpReconnect, "begin", killsGuest},
	{"libxl", OpPrepare, "begin", abortsStart},
	{"libxl", OpStart, "begin", abortsStart},
	{"libxl", OpStarted, "begin", abortsStart},
	{"libxl", OpStopped, "end", ignored},
	{"libxl", OpRelease, "end", ignored},
	{"libxl", OpMigrate, "begin", "aborts the incoming migration; stdout replaces the XML"},
	{"libxl", OpReconnect, "begin", "makes libvirt give the guest up; older ones kill it"},
	{"bhyve", OpPrepare, "begin", abortsStart},
	{"bhyve", OpStart, "begin", abortsStart},
	{"bhyve", OpStarted, "begin", abortsStart},
	{"bhyve", OpStopped, "end", ignored},
	{"bhyve", OpRelease, "end", ignored},
}

// Operations returns a copy of the table of every operation of every domain driver. The hooks of
// networks and of the daemon are not in it: they do not concern a domain, and this package answers
// them with 0.
func Operations() []Operation { return slices.Clone(operations) }
