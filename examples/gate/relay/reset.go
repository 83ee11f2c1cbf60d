package relay

import (
	"regexp"
	"slices"

	"libvirt.org/go/libvirtxml"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/examples/gate/call"
)

// operations gives what a call is to the domain: to reset one that is not to be restarted then is to end it.
func operations(c call.Call, d *domainxml.Domain) []call.Operation {
	if !slices.Contains(c.Operations, call.Reset) || slices.Contains(c.Operations, call.Stop) || restarts(d) {
		return c.Operations
	}
	return append([]call.Operation{call.Stop}, c.Operations...)
}

// restarts reports whether the domain runs on after a reset, for sure.
func restarts(d *domainxml.Domain) bool {
	whole, err := d.Libvirt()
	if err != nil || whole == nil || whole.OnReboot != "" && whole.OnReboot != "restart" {
		return false
	}
	return whole.QEMUCommandline == nil || !slices.ContainsFunc(whole.QEMUCommandline.Args, func(a libvirtxml.DomainQEMUCommandlineArg) bool {
		return mayEndAtReset.MatchString(a.Value)
	})
}

// mayEndAtReset are QEMU's options that say what a reset does, or read others from a file.
var mayEndAtReset = regexp.MustCompile(`\A--?(no-reboot|action|readconfig)\b`)
