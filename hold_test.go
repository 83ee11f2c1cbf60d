package stopguard_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stopguard/stopguard"
	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/testhost"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/hold"
	"github.com/stopguard/stopguard/policy/hostpolicy"
	"github.com/stopguard/stopguard/policy/ticket"
)

// Hook, gate and library see the same holds.
func TestAHeldDomainIsRefusedEverywhere(t *testing.T) {
	root := testhost.Root(t)
	web := domain(t, read(t, webXML))
	held, err := hold.Store{Root: root}.Acquire(hold.Request{Domain: web.UUID, Reason: "nightly backup", Operations: []string{policy.OperationReset}})
	if err != nil {
		t.Fatal(err)
	}
	stop := func() answer { return askNow(t, root, web.Name, webXML) }
	requested := func(operation string) verdict {
		return requestAt(t, root, time.Now(), stopguard.Request{Operation: operation, Domain: web, Deferred: true})
	}
	inputs := func() policy.Decision {
		engine := load(t, root)
		in, err := stopguard.Config{Root: root}.Input(engine, web, hookproto.Process{})
		if err != nil {
			t.Fatal(err)
		}
		d, err := engine.Decide(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	const text = ": nightly backup (rule hold)"
	if got := stop(); got.Exit != hookproto.ExitVeto || !strings.Contains(got.Line, "web-01: held by ") || !strings.Contains(got.Line, text) {
		t.Errorf("hook: %+v", got)
	}
	for operation, want := range map[string]bool{policy.OperationStop: true, policy.OperationDelete: true, policy.OperationReset: true, policy.OperationPause: false} {
		if got := requested(operation); strings.Contains(got.Veto, "nightly backup") != want || got.Fault != "" {
			t.Errorf("gate, %s: %+v", operation, got)
		}
	}
	if got := inputs(); got.Outcome != policy.Veto || got.Reasons[0].Rule != "hold" {
		t.Errorf("library: %+v", got)
	}
	grant(t, root, ticket.Ticket{Domain: web.UUID})
	if got := stop(); got != (answer{}) {
		t.Errorf("with a ticket: %+v", got)
	}
	if err := held.Release(); err != nil {
		t.Fatal(err)
	}
	if a, b := requested(policy.OperationReset), inputs(); a != (verdict{}) || b.Outcome != policy.Allow {
		t.Errorf("released: %+v %+v", a, b)
	}
}

// Whoever may hold, and is not root, must not be able to make a stop late, and so a fault.
func TestAThousandHoldsAreAVetoThatATicketLifts(t *testing.T) {
	root := testhost.Root(t)
	web := domain(t, read(t, webXML))
	first, err := hold.Store{Root: root}.Acquire(hold.Request{Domain: web.UUID, Reason: strings.Repeat("x", 512)})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Release()
	folder := filepath.Join(root, "run/stopguard/holds")
	files, err := filepath.Glob(folder + "/" + web.UUID + ".*")
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	content := read(t, files[0])
	holds := 1000
	if testing.Short() {
		holds = 250 // more than are read
	}
	for i := range holds { // not by Acquire, which looks at all others each time
		f, err := os.OpenFile(fmt.Sprintf("%s/%s.%016d", folder, web.UUID, i), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		_, err = f.WriteString(strings.Replace(string(content), "xxxx", fmt.Sprintf("%04d", i), 1))
		if err = errors.Join(err, unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})); err != nil {
			t.Fatal(err)
		}
	}
	got := askNow(t, root, web.Name, webXML)
	if got.Exit != hookproto.ExitVeto || !strings.Contains(got.Line, " and 200 more") {
		t.Errorf("%+v", got)
	}
	grant(t, root, ticket.Ticket{Domain: web.UUID})
	if got := askNow(t, root, web.Name, webXML); got != (answer{}) {
		t.Errorf("with a ticket: %+v", got)
	}
}

func load(t *testing.T, root string) *policy.Engine {
	t.Helper()
	config, err := hostpolicy.Load(root)
	if err != nil {
		t.Fatal(err)
	}
	engine, err := policy.New(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	return engine
}
