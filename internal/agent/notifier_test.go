package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stopguard/stopguard/internal/approval"
	"github.com/stopguard/stopguard/internal/notify"
	"github.com/stopguard/stopguard/internal/testhost"
)

const tellProgram = "/usr/local/lib/tell"

// setProgram installs a script and names it in data.site.notify.
func (h host) setProgram(script string, more string) {
	h.t.Helper()
	if os.Geteuid() != 0 {
		h.t.Skip("only root runs a program as another user")
	}
	testhost.OpenToAll(h.t, h.root)
	out := h.path("out")
	if err := errors.Join(os.Mkdir(out, 0o777), os.Chmod(out, 0o777)); err != nil {
		h.t.Fatal(err)
	}
	h.write(tellProgram, "#!/bin/sh\nOUT="+out+"\n"+script+"\n")
	if err := os.Chmod(h.path(tellProgram), 0o755); err != nil {
		h.t.Fatal(err)
	}
	h.write("/etc/stopguard/policy/data.json", `{"site": {"notify": {"program": "`+tellProgram+`", "user": "nobody"}`+more+`}}`)
}

// waitForEvents waits until the program has n events, and returns all of them. An event that was
// sent while the agent stopped may come twice.
func (h host) waitForEvents(n int) []notify.Event {
	h.t.Helper()
	var events []notify.Event
	h.eventually(fmt.Sprintf("%d events are told", n), func() error {
		events = nil
		text, _ := os.ReadFile(h.path("out/lines"))
		for line := range strings.Lines(string(text)) {
			var e notify.Event
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				return err
			}
			if !slices.ContainsFunc(events, func(other notify.Event) bool { return other.ID == e.ID }) {
				events = append(events, e)
			}
		}
		if len(events) < n {
			return fmt.Errorf("only %+v", events)
		}
		return nil
	})
	return events
}

func (h host) hasLooked() {
	h.t.Helper()
	h.eventually("the agent has looked", func() error { _, err := os.Stat(h.path("/var/lib/stopguard/notify/state")); return err })
}

// The program gets an event for each step of a request, and for a mark that is removed from a
// running domain, also while the agent does not run.
func TestTheAgentTellsRequestsAndRemovedMarks(t *testing.T) {
	t.Parallel()
	const mark = `<p:protection xmlns:p="urn:stopguard:protection:1" reason="r"/>`
	h := newHost(t, "{}")
	h.setProgram(`cat >>"$OUT/lines"`, `, "tickets": {"approvers": 1, "break_glass": true, "who": ["user:61001", "user:61002"]}`)
	write := h.domain("web-01", markUUID)
	write(mark)
	a := h.start()
	h.hasLooked()
	client := approval.Client{Root: h.root}
	ask := approval.Ask{Domain: markUUID, Operation: "stop", Reason: "drain", For: time.Hour}
	var r approval.Request
	h.eventually("a request is taken", func() (err error) {
		testhost.As(t, 61001, func() { r, _, err = client.Request(t.Context(), ask) })
		return err
	})
	var err error
	testhost.As(t, 61002, func() { _, _, err = client.Approve(t.Context(), r.ID) })
	if err != nil {
		t.Fatal(err)
	}
	// Only a look finds a granted ticket, and it would find one that it missed after a restart,
	// too.
	h.waitForEvents(3)
	ask.BreakGlass = true
	testhost.As(t, 61002, func() { _, _, err = client.Request(t.Context(), ask) })
	if err != nil {
		t.Fatal(err)
	}
	h.waitForEvents(4)
	a.stop()
	write("") // while no agent runs
	h.start()
	events := h.waitForEvents(5)
	slices.SortStableFunc(events, func(a, b notify.Event) int { return a.Time.Compare(b.Time) })
	var got []string
	for _, e := range events {
		got = append(got, fmt.Sprintf("%s %v %s%v%v%v", e.What, e.UUID == markUUID, e.Person, e.Approvers, e.Ticket == r.ID, e.RemovedFrom))
	}
	want := []string{
		"ticket_requested true 61001[]true[]", "ticket_approved true 61002[61002]true[]", "ticket_granted true 61001[61002]true[]",
		"break_glass true 61002[]false[]", "mark_removed true []false[running]",
	}
	slices.Sort(got[1:3]) // the approval grants the ticket, at the same moment
	slices.Sort(want[1:3])
	if !slices.Equal(got, want) {
		t.Errorf("told:\n%s\nnot\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// No decision waits for a program that hangs.
func TestNoDecisionWaitsForAProgramThatHangs(t *testing.T) {
	t.Parallel()
	h := newHost(t, "{}")
	h.setProgram(`echo $$ >"$OUT/lines.pid"; exec sleep 1000`, "")
	h.write("/etc/libvirt/protected-domains", "gone-01\n")
	a := h.start()
	h.hasLooked()
	before := a.median(t)
	h.write("/etc/libvirt/protected-domains", "")
	h.eventually("the program hangs", func() error { _, err := os.Stat(h.path("out/lines.pid")); return err })
	after := a.median(t)
	t.Logf("a decision takes %v, and %v while the program hangs", before, after)
	if after > 10*before+time.Second { // far from the 30 s of the program
		t.Errorf("%v instead of %v", after, before)
	}
	stopping := time.Now()
	a.stop()
	if took := time.Since(stopping); took > 20*time.Second {
		t.Errorf("the agent took %v to stop", took)
	}
}

// median returns how long a decision takes, of 101.
func (r *running) median(t *testing.T) time.Duration {
	t.Helper()
	var all []time.Duration
	for range 101 {
		began := time.Now()
		response, err := r.client.Post("http://agent"+decisionPath, "application/json", strings.NewReader(question("web-01")))
		if err != nil {
			t.Fatal(err)
		}
		if response.Body.Close(); response.StatusCode != http.StatusOK {
			t.Fatal(response.Status)
		}
		all = append(all, time.Since(began))
	}
	slices.Sort(all)
	return all[len(all)/2]
}
