// Package hostpath has the paths of what a host itself says about stops.
package hostpath

import "os"

// RootVariable is the environment variable that names a folder below which every path of the host
// is looked for, to try stopguard out on a folder.
const RootVariable = "STOPGUARD_ROOT"

// Root returns the folder below which a host is looked for: the given one, or if it is "", the one
// that the environment names. It returns "" for the host itself.
func Root(root string) string {
	if root == "" {
		return os.Getenv(RootVariable)
	}
	return root
}

// Where the host's administrator keeps it. Each may be missing.
const (
	Policy = "/etc/stopguard/policy"          // Policy is the folder of the site's rules and settings.
	Bundle = "/etc/stopguard/bundle.tar.gz"   // Bundle is a bundle of them.
	Key    = "/etc/stopguard/bundle.pem"      // Key verifies the bundle.
	List   = "/etc/libvirt/protected-domains" // List is the list of the rule protected_list.
)

// ShuttingDown is the flag that internal/host/stopguard-shutdown.service creates when the host
// shuts down, and removes at the start. While it is there, nothing is enforced.
const ShuttingDown = "/run/stopguard/shutting-down"

// The switches. Neither is below All: they decide whether a decision is enforced, not what it is.
const (
	Hook    = "/etc/libvirt/hooks/qemu.d/50-stopguard" // Hook is the hook file; libvirt runs it if it is executable.
	GateOff = "/etc/stopguard/gate-off"                // GateOff switches the gate off while it is there.
)

// All is each of the files that a decision is made by.
var All = []string{Policy, Bundle, Key, List}
