package install

import (
	"bytes"
	"context"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stopguard/stopguard/internal/doctor"
	"github.com/stopguard/stopguard/internal/host"
	"github.com/stopguard/stopguard/internal/host/hosttest"
)

// An installation passes doctor's checks.
func TestDoctorFindsNothingWrongWithAnInstallation(t *testing.T) {
	p := &site{hosttest.Healthy(t)}
	p.Remove("/etc/libvirt/hooks/qemu.d")
	p.Remove(host.HookProgram)
	p.Remove(host.HookLink)
	p.Remove("/etc/systemd")
	p.Remove("/etc/stopguard")
	p.Program("/home/stopguard-hook")
	p.install()
	p.Link("../"+host.ShutdownUnit, host.UnitFolder+"/multi-user.target.wants/"+host.ShutdownUnit) // systemctl enable
	if diff := cmp.Diff([]string{}, p.faults()); diff != "" {
		t.Error(diff)
	}
}

// faults returns the faults that doctor finds on the host.
func (p *site) faults() []string {
	p.T.Helper()
	p.T.Setenv("STOPGUARD_ROOT", p.Root)
	var out bytes.Buffer
	command := doctor.Command()
	command.SetArgs([]string{"-o", "json"})
	command.SetOut(&out)
	_ = command.ExecuteContext(context.Background()) // it exits with the worst severity
	var r struct {
		Findings []struct{ ID, Severity string }
	}
	p.Must(json.Unmarshal(out.Bytes(), &r))
	found := []string{}
	for _, f := range r.Findings {
		if f.Severity != "ok" && f.ID != "selinux" {
			found = append(found, f.ID+": "+f.Severity)
		}
	}
	return found
}
