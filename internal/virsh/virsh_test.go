package virsh

import (
	"errors"
	"io/fs"
	"testing"
)

func TestAnErrorSaysWhetherLibvirtLetsTheUserIn(t *testing.T) {
	for said, want := range map[string]bool{
		"error: failed to connect to the hypervisor error: Cannot create user runtime directory '/root/.cache/libvirt': Permission denied": true,
		"error: authentication unavailable: no polkit agent available to authenticate action 'org.libvirt.unix.manage'":                    true,
		"error: failed to get domain 'x'":                                      false,
		"error: stopguard: fault: x: /etc/stopguard/policy: Permission denied": false, // the gate's, which runs as root
	} {
		if got := errors.Is(&Error{command: "dominfo", text: said, err: errors.New("exit status 1")}, fs.ErrPermission); got != want {
			t.Errorf("%s: %t", said, got)
		}
	}
}
