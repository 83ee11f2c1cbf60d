package stopguard_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/testhost"
)

func TestNothingIsEnforcedWhileTheHostShutsDown(t *testing.T) {
	root := testhost.Root(t, "run/stopguard/shutting-down", "")
	if got := askStop(t, root, pgPrimary, capture); got != (answer{}) {
		t.Errorf("%+v", got)
	}
	chmod(t, root, "run/stopguard/shutting-down", 0o666)
	if got := askStop(t, root, pgPrimary, capture); got.Exit != hookproto.ExitVeto {
		t.Errorf("a flag that anybody may set: %+v", got)
	}
}

// The test runs the unit's commands itself, without systemd: below a folder of its own, and with a
// systemctl that answers as systemd would.
func TestTheUnitSetsTheFlagWhenTheHostShutsDownAndNotBefore(t *testing.T) {
	unit := string(read(t, "internal/host/stopguard-shutdown.service"))
	if !strings.Contains(unit, "\nAfter=libvirt-guests.service\n") {
		t.Error("the unit must be stopped before libvirt-guests stops the guests")
	}
	root := testhost.Root(t, "run/stopguard/shutting-down", "")
	flag := filepath.Join(root, "run/stopguard/shutting-down")
	run := func(key, state string) bool {
		t.Helper()
		_, line, found := strings.Cut(unit, "\n"+key+"=")
		line, _, _ = strings.Cut(line, "\n")
		if !found {
			t.Fatalf("the unit has no %s", key)
		}
		bin := t.TempDir()
		if err := os.WriteFile(filepath.Join(bin, "systemctl"), []byte("#!/bin/sh\necho "+state+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("/bin/sh", "-c", strings.ReplaceAll(line, "/run/stopguard/", root+"/run/stopguard/"))
		cmd.Env = []string{"PATH=" + bin + ":/usr/bin:/bin"}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", line, err, out)
		}
		_, err := os.Stat(flag)
		return err == nil
	}
	if run("ExecStart", "running") {
		t.Error("a flag of the last boot is still there")
	}
	if run("ExecStop", "running") {
		t.Error("stopping the unit by hand set the flag")
	}
	if !run("ExecStop", "stopping") {
		t.Error("a shutdown did not set the flag")
	}
}
