package agent

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stopguard/stopguard/internal/hostpath"
	"github.com/stopguard/stopguard/internal/testhost"
	"github.com/stopguard/stopguard/policy/hold"
	"github.com/stopguard/stopguard/policy/record"
	"github.com/stopguard/stopguard/policy/ticket"
)

func TestEachMetricOfTheAgentIsDocumented(t *testing.T) {
	names := testhost.Described(newMetrics().registry)
	for name := range testhost.Described(collector{}) {
		names[name] = true
	}
	testhost.CheckMetricsPage(t, "The agent", names)
}

func TestTheMetricsSayWhatIsOffAndOpen(t *testing.T) {
	t.Parallel()
	h := newHost(t, "stopguard: {}\n")
	a := h.start()
	metrics := func() string {
		_, text, err := a.get("/metrics")
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	says := func(why string, want ...string) {
		t.Helper()
		for _, line := range want {
			if !strings.Contains(metrics(), "\n"+line) {
				t.Errorf("%s: the metrics lack %q", why, line)
			}
		}
	}
	says("at the start", "stopguard_tickets_open 0\n", `stopguard_build_info{goversion="go`)
	if strings.Contains(metrics(), "\nstopguard_hook_off") {
		t.Error("there is no hook, and it has a state")
	}
	h.write(hostpath.Hook, "#!/bin/sh\n")
	if err := os.Chmod(h.path(hostpath.Hook), 0o644); err != nil {
		t.Fatal(err)
	}
	says("the hook is not executable", "stopguard_hook_off 1\n")
	if err := os.Chmod(h.path(hostpath.Hook), 0o755); err != nil {
		t.Fatal(err)
	}
	says("the hook is executable", "stopguard_hook_off 0\n")
	h.write("etc/stopguard/policy/data.yaml", "site:\n  monitor: [protected_list, \"protection_mark/delete\"]\n")
	h.eventually("what is monitored is shown", func() error {
		for _, rule := range []string{"protected_list", "protection_mark/delete"} {
			if !strings.Contains(metrics(), "\nstopguard_monitored{rule=\""+rule+"\"} 1\n") {
				return errors.New("the metrics lack " + rule)
			}
		}
		return nil
	})
	now := time.Now()
	if _, err := (ticket.Store{Root: h.root}).Grant(ticket.Ticket{Name: "web-*", Reason: "test", Requester: "root", Operation: "stop", NotAfter: now.Add(time.Hour)}, now); err != nil {
		t.Fatal(err)
	}
	says("a ticket is granted", "stopguard_tickets_open 1\n")
	says("nothing is held, and nothing escaped", "stopguard_holds 0\n", "stopguard_escapes_last_day 0\n")
	held, err := hold.Store{Root: h.root}.Acquire(hold.Request{Domain: markUUID, Reason: "backup"})
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []time.Time{now.Add(-25 * time.Hour), now} { // by a hook that did not ask the agent
		e := record.New("kvm-07", record.Domain{Name: "web-01"}, at)
		e.Result.Outcome = record.Escape
		var unsent *record.JournalError
		if err := (record.Recorder{Root: h.root}).Write(t.Context(), e); err != nil && !errors.As(err, &unsent) {
			t.Fatal(err)
		}
	}
	says("a domain is held, and one escaped today", "stopguard_holds 1\n", "stopguard_escapes_last_day 1\n")
	if err := held.Release(); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(h.path(record.File), h.path(record.File+".1")); err != nil {
		t.Fatal(err)
	}
	says("it is free, and the record was rotated", "stopguard_holds 0\n", "stopguard_escapes_last_day 1\n")
}
