package relay

import (
	"regexp"
	"slices"

	"libvirt.org/go/libvirtxml"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/internal/gate/call"
)

// operations returns what a call is to the domain: to reset one that is not to be restarted then is
// to end it.
func operations(c call.Call, d *domainxml.Domain) []call.Operation {
	if !slices.Contains(c.Operations, call.Reset) || slices.Contains(c.Operations, call.Stop) || restarts(c, d) {
		return c.Operations
	}
	return append([]call.Operation{call.Stop}, c.Operations...)
}

// restarts reports whether the domain runs on after a call that resets it, for sure.
func restarts(c call.Call, d *domainxml.Domain) bool {
	whole, err := d.Libvirt()
	if err != nil || whole == nil || whole.OnReboot != "" && whole.OnReboot != "restart" {
		return false
	}
	if c.Procedure == "DOMAIN_INJECT_NMI" && !restartsCrashed(whole) {
		return false
	}
	return whole.QEMUCommandline == nil || !slices.ContainsFunc(whole.QEMUCommandline.Args, func(a libvirtxml.DomainQEMUCommandlineArg) bool {
		return mayEndAtReset.MatchString(a.Value)
	})
}

// restartsCrashed reports whether a domain is restarted if its guest panics, as many do at an NMI.
// Otherwise the panic would go unnoticed. libvirt ends such a domain unless on_crash is set.
func restartsCrashed(d *libvirtxml.Domain) bool {
	return d.Devices == nil || len(d.Devices.Panics) == 0 || slices.Contains(runsOn, d.OnCrash)
}

// runsOn are the values of on_crash with which a domain runs on after a panic; the last since
// libvirt 12.6.
var runsOn = []string{"restart", "coredump-restart", "preserve-running"}

// mayEndAtReset are QEMU's options that say what a reset does, or read others from a file.
var mayEndAtReset = regexp.MustCompile(`\A--?(no-reboot|action|readconfig)\b`)
