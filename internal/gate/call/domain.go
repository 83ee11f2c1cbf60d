package call

import (
	"regexp"
	"slices"

	"libvirt.org/go/libvirtxml"

	"github.com/stopguard/stopguard/domainxml"
)

// On returns the operations of a call on the domain. If a domain is not certain to run on after a
// reset, the reset is also a stop. Detaching a device by its alias is an operation only if the
// device is a disk, or may be one.
func (c Call) On(d *domainxml.Domain) []Operation {
	if c.Alias != "" && !hasDisk(d, c.Alias) {
		return nil
	}
	if !slices.Contains(c.Operations, Reset) || slices.Contains(c.Operations, Stop) || restarts(c, d) {
		return c.Operations
	}
	return append([]Operation{Stop}, c.Operations...)
}

// hasDisk reports whether the alias is that of a disk. It also reports true if the domain's devices
// are unknown.
func hasDisk(d *domainxml.Domain, alias string) bool {
	whole, err := d.Libvirt()
	if err != nil || whole == nil || whole.Devices == nil {
		return true
	}
	return slices.ContainsFunc(whole.Devices.Disks, func(disk libvirtxml.DomainDisk) bool { return disk.Alias != nil && disk.Alias.Name == alias })
}

// restarts reports whether the domain is certain to run on after a call that resets it.
func restarts(c Call, d *domainxml.Domain) bool {
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

// restartsCrashed reports whether a domain runs on if its guest panics, as many do at an NMI.
// Without a panic device, libvirt does not notice the panic. Otherwise libvirt ends the domain
// unless on_crash is set.
func restartsCrashed(d *libvirtxml.Domain) bool {
	return d.Devices == nil || len(d.Devices.Panics) == 0 || slices.Contains(runsOn, d.OnCrash)
}

// runsOn are the values of on_crash with which a domain runs on after a panic. The last is that of
// libvirt 12.6 and newer.
var runsOn = []string{"restart", "coredump-restart", "preserve-running"}

// mayEndAtReset matches QEMU's options that change a reset, or that read options from a file.
var mayEndAtReset = regexp.MustCompile(`\A--?(no-reboot|action|readconfig)\b`)
