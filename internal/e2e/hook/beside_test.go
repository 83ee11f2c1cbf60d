//go:build e2e

package e2e

import (
	"strings"
	"testing"
)

const (
	besideScript = "beside"

	ownScript = "/etc/libvirt/hooks/qemu"
	ownLog    = "/run/own.log"
	ownError  = "this host is for databases"
)

// own is a script of a site's: it notes what it is called for, and refuses to start some domains.
const own = `#!/bin/sh
echo "$1 $2" >>` + ownLog + `
case "$1 $2" in 'web-02 prepare') echo '` + ownError + `' >&2; exit 1 ;; esac
`

// beside plays a guest's life on a host with a script in the place where libvirt looks first.
func (h *host) beside() {
	h.install()
	h.File(ownScript, own, 0o755)
	h.StartDaemon()
	step := func(name, calls string, records int, args ...string) {
		h.nextStep(name)
		o := observation{Step: name, Answer: h.Virsh(args...)}
		h.Within(patience/8, func() bool {
			o.Record, o.Calls = append(o.Record, h.recorded()...), h.calls()
			return o.Calls == calls && len(o.Record) >= records
		})
		h.seen = append(h.seen, o)
	}
	step("define", "", 0, "define", h.Write(marked))
	step("start", startCalls, 0, "start", marked.Name)
	step("destroy", endCalls, 1, "destroy", marked.Name)
	step("define another", "", 0, "define", h.Write(unstartable))
	step("start another", "", 0, "start", unstartable.Name)
	h.seen = append(h.seen, observation{Step: "own calls", Answer: answer{Stdout: h.Read(ownLog)}})
}

// What libvirt asks a script of the site's is as before, and so is what it refuses; the hook in
// qemu.d is asked, too, and records.
func TestAHookScriptGoesOnBesideStopguard(t *testing.T) {
	t.Parallel()
	seen := map[string]observation{}
	for _, o := range onHost(t, besideScript) {
		seen[o.Step] = o
	}
	var ownCalls, others []string
	for line := range strings.Lines(seen["own calls"].Answer.Stdout) {
		if operation, ok := strings.CutPrefix(strings.TrimSpace(line), marked.Name+" "); ok {
			ownCalls = append(ownCalls, operation)
		} else {
			others = append(others, strings.TrimSpace(line))
		}
	}
	if got, want := strings.Join(ownCalls, " "), startCalls+" "+endCalls; got != want {
		t.Errorf("the script was called for %q, want %q", got, want)
	}
	if got := seen["start"].Calls + " " + seen["destroy"].Calls; got != startCalls+" "+endCalls {
		t.Errorf("the hook in qemu.d was called for %q", got)
	}
	if got := strings.Join(seen["destroy"].Record, " "); got != "escape of "+marked.Name {
		t.Errorf("the end of a protected domain is on record as %q", got)
	}
	if got := seen["start another"].Answer; got.Exit != 1 || !strings.Contains(got.Stderr, ownError) {
		t.Errorf("what the script refuses: %+v (it was called for %q)", got, others)
	}
}
