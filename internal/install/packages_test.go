package install

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stopguard/stopguard/internal/host/hosttest"
)

func TestWhatAPackageBroughtIsNotInstalledOver(t *testing.T) {
	p := newSite(t)
	p.install() // before the package came
	p.Packaged()
	before := hosttest.Tree(t, p.Root)
	i := installer{Host: p.Host, out: io.Discard, source: p.Path("/home/stopguard-hook")}
	for what, err := range map[string]error{"install": i.install(t.Context()), "uninstall": i.uninstall()} {
		if err == nil || !strings.Contains(err.Error(), "belongs to the package stopguard") || !strings.Contains(err.Error(), "; ") {
			t.Error(what, err)
		}
	}
	if diff := cmp.Diff(before, hosttest.Tree(t, p.Root)); diff != "" {
		t.Error(diff)
	}
}

// The hook file is not in the package, so the gate must not require it.
func TestTheGateComesToAPackagedHostWhoseHookWasDeleted(t *testing.T) {
	p, _ := withSystemd(t)
	p.Program("/home/stopguard-gate")
	p.Packaged()
	g := gate{installer: installer{source: p.Path("/home/stopguard-gate")}, answers: func() error { return nil }}
	p.Must(g.installWithGate(installer{Host: p.Host, out: io.Discard}, func() error { return errors.New("the hook was touched") }))
}
