// Package hostpath has the paths of the files by which a host itself decides about stops.
package hostpath

import "os"

// RootVariable is the environment variable for a folder that contains all paths of the host. It is
// for trying stopguard out on a folder.
const RootVariable = "STOPGUARD_ROOT"

// Root returns root, or the folder in RootVariable if root is "". It returns "" for the host
// itself.
func Root(root string) string {
	if root == "" {
		return os.Getenv(RootVariable)
	}
	return root
}

// The files of the host's administrator. Each may be missing.
const (
	Policy = "/etc/stopguard/policy"          // Policy is the folder of the site's rules and settings.
	Bundle = "/etc/stopguard/bundle.tar.gz"   // Bundle is a bundle of rules and settings.
	Key    = "/etc/stopguard/bundle.pem"      // Key is the public key that verifies the bundle.
	List   = "/etc/libvirt/protected-domains" // List is the list of the rule protected_list.
)

// ShuttingDown is the flag that internal/host/stopguard-shutdown.service creates when the host
// shuts down, and removes at the start. While it exists, decisions are not enforced.
const ShuttingDown = "/run/stopguard/shutting-down"

// The switches. They are not in All, because they affect the enforcement and not the decision.
const (
	Hook    = "/etc/libvirt/hooks/qemu.d/50-stopguard" // Hook is the hook file; libvirt runs it if it is executable.
	GateOff = "/etc/stopguard/gate-off"                // GateOff switches the gate off while it exists.
)

// All are the files that decisions depend on.
var All = []string{Policy, Bundle, Key, List}
