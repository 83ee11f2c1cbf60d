package agent

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stopguard/stopguard/internal/hostpath"
	"github.com/stopguard/stopguard/internal/testhost"
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
}
