//go:build e2e

package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stopguard/stopguard/internal/e2ehost"
)

// pinging is a client that wants to hear from libvirtd every second, and misses three times.
const pinging = `
import libvirt, sys, threading, time
libvirt.registerErrorHandler(lambda *_: None, None)
libvirt.virEventRegisterDefaultImpl()
def events():
    while True:
        libvirt.virEventRunDefaultImpl()
threading.Thread(target=events, daemon=True).start()
conn = libvirt.open(sys.argv[1])
closed = threading.Event()
reason = []
def close(_, why, __):
    reason.append(why)
    closed.set()
conn.registerCloseCallback(close, None)
conn.setKeepAlive(1, 3)
open(sys.argv[2], "w").close()
print(closed.wait(40), reason, conn.isAlive())
`

// unrecorded matches the note of a veto whose record a loaded machine does not write in time.
var unrecorded = regexp.MustCompile("; not (recorded|in the journal): ")

// stall stops libvirtd and nothing else, while all kinds of clients are busy.
func (h *host) stall() {
	h.begin()
	for _, g := range []e2ehost.Guest{guarded, free} {
		h.StartGuest(g)
		h.Remind(g)
	}
	h.File("/run/pinging.py", pinging, 0o600)
	idle, asking, guessing := h.dialGate(), h.dialGate(), h.dialGate()
	note := func(name string, got e2ehost.Answer) {
		h.note(name, got)
		s := &h.seen[len(h.seen)-1]
		s.State = h.State(guarded) + "; " + h.State(free)
		if s.Memory = h.Ask(guarded); strings.HasPrefix(h.State(free), "running") {
			s.Memory += " " + h.Ask(free)
		}
	}

	h.Doing = "clients that want to hear from libvirtd"
	var pings sync.WaitGroup
	answers := map[string]e2ehost.Answer{}
	var mu sync.Mutex
	for name, uri := range map[string]string{"through": "qemu:///system", "direct": e2ehost.Direct} {
		pings.Go(func() {
			got := h.CommandWithin(3*e2ehost.Patience, "", h.Environment(), python, "/run/pinging.py", uri, "/run/"+name+".ready")
			mu.Lock()
			defer mu.Unlock()
			answers[name] = got
		})
	}
	h.Until("they listen", func() bool {
		return h.Command("", nil, "/bin/ls", "/run/through.ready", "/run/direct.ready").Exit == 0
	})

	h.Doing = "libvirtd is stopped"
	daemon := h.PID(e2ehost.DaemonPID)
	h.Freeze(daemon)
	began := time.Now()
	got := asking.answers(append(asking.about(domainDestroy, 7, free), asking.about(domainSuspend, 8, guarded)...), 2)
	took := time.Since(began)
	pings.Wait()
	h.Thaw(daemon)
	h.Until("libvirtd goes on", func() bool { return h.Virsh("uri").Exit == 0 })

	h.Doing = "what libvirtd did afterwards"
	// Its answer comes behind that to everything which it was sent before.
	after := asking.answers(asking.frame(getLibVersion, 9, nil), 1)
	note("the calls that nobody could decide", e2ehost.Answer{
		Stdout: fmt.Sprint(got[domainDestroy], "\n", got[domainSuspend], "\n", after[getLibVersion] == "ok", " ", took >= 5*time.Second),
	})
	note("an idle connection goes on", e2ehost.Answer{Stdout: idle.answers(idle.frame(getLibVersion, 9, nil), 1)[getLibVersion]})
	h.seen = append(h.seen, step{Name: "the clients that listen", Through: answers["through"], Direct: answers["direct"]})

	h.Doing = "a client goes away while libvirtd is stopped"
	h.Freeze(daemon)
	if _, err := guessing.conn.Write(guessing.about(domainDestroy, 7, free)); err != nil {
		h.Fatalf("%v", err)
	}
	_ = guessing.conn.Close()
	h.Until("the gate notices", func() bool { return strings.Contains(h.Read(e2ehost.GateLog), "its call was dropped") })
	h.Thaw(daemon)
	note("a client that did not wait", e2ehost.Answer{})

	h.Doing = "libvirtd is stopped for a moment only"
	h.Freeze(daemon)
	ended := make(chan map[uint32]string)
	go func() {
		ended <- asking.answers(append(asking.about(domainDestroy, 17, free), asking.about(domainSuspend, 18, guarded)...), 2)
	}()
	time.Sleep(10 * e2ehost.Tick) // most often the gate has sent its request by then
	h.Thaw(daemon)
	got = <-ended
	vetoed := unrecorded.Split(got[domainSuspend], 2)[0]
	note("the calls that could be decided in time", e2ehost.Answer{Stdout: got[domainDestroy] + "\n" + vetoed})
}

const getLibVersion = 157

func TestAStalledLibvirtdStopsNothingLate(t *testing.T) {
	const both = "running (booted); running (booted)"
	late := func(g e2ehost.Guest) string {
		return "88 stopguard: fault: " + g.UUID + ": no decision within 5s; try again, and look for a slow rule, a libvirtd that does not answer, or a host under load; to switch the guard off: touch /etc/stopguard/gate-off\n"
	}
	want := map[string]step{
		"the calls that nobody could decide": {Through: e2ehost.Answer{Stdout: late(free) + late(guarded) + "true true"}, State: both, Memory: "kept kept"},
		"an idle connection goes on":         {Through: e2ehost.Answer{Stdout: "ok"}, State: both, Memory: "kept kept"},
		"a client that did not wait":         {State: both, Memory: "kept kept"},
		// libvirt's reason 2 is that nothing was heard of the other side.
		"the clients that listen": {Through: e2ehost.Answer{Stdout: "True [2] 0\n"}, Direct: e2ehost.Answer{Stdout: "True [2] 0\n"}},
		"the calls that could be decided in time": {Through: e2ehost.Answer{Stdout: "ok\n88 " + strings.TrimPrefix(veto(guarded.Name), "error: ")},
			State: "running (booted); shut off (destroyed)", Memory: "kept"},
	}
	seen := on(t, "stalled")
	for _, s := range seen {
		t.Run(s.Name, func(t *testing.T) {
			w := want[s.Name]
			w.Name = s.Name
			if diff := cmp.Diff(w, s); diff != "" {
				t.Error(diff)
			}
		})
	}
	if len(seen) != len(want) {
		t.Errorf("%d steps of %d", len(seen), len(want))
	}
}
