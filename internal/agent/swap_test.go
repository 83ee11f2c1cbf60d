package agent

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stopguard/stopguard/internal/testhost"
)

// raced says that this is a build with the race detector.
var raced bool

// crowd says how many bundles are activated while how many clients ask. STOPGUARD_SWAPS=1000, as
// .ci/e2e has it, takes minutes. With the race detector, which makes everything ten times as slow,
// there are fewer of both.
func crowd() (swaps, clients int) {
	if raced {
		return 10, 8
	}
	return 50, 64
}

// pause is between two questions of a client, so that there is time for anything else.
const pause = 50 * time.Millisecond

// Each bundle has two rules that both say its revision, so that a decision of two bundles at once
// would show.
func twice(revision string) map[string]string {
	return map[string]string{
		".manifest": fmt.Sprintf(`{"revision": %q}`, revision),
		"a.rego":    fmt.Sprintf("package stopguard.rules.a\n\nveto contains %q if input.operation == \"stop\"\n", revision),
		"b.rego":    "package stopguard.rules.b\n\nveto contains data.site.b.revision if input.operation == \"stop\"\n",
		"data.json": fmt.Sprintf(`{"site": {"b": {"revision": %q}}}`, revision),
		"a_test.rego": fmt.Sprintf("package stopguard.rules.a_test\n\nimport data.stopguard.rules.a\n\n"+
			"test_a_stop if a.veto == {%q} with input as {\"operation\": \"stop\"}\n", revision),
	}
}

func TestEveryDecisionBelongsToOneBundleWhileManyAreActivated(t *testing.T) {
	if testing.Short() {
		t.Skip("activates bundles while thousands of questions are asked")
	}
	n, clients := crowd()
	if more := os.Getenv("STOPGUARD_SWAPS"); more != "" {
		var err error
		if n, err = strconv.Atoi(more); err != nil {
			t.Fatal(err)
		}
	}
	server := serveBundle(t, twice("r0"))
	h := newHost(t, strings.Replace(server.config(""), "polling: {min_delay_seconds: 1, max_delay_seconds: 1}", "trigger: manual", 1))
	a := h.start()
	trigger := func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := a.plane.Load().bundlePlugin().Trigger(ctx); err != nil {
			t.Fatal(err)
		}
	}
	trigger()
	// What may be answered: a revision that was current at some time between the question and the
	// answer.
	var begun, done atomic.Int64 // activations
	stop := make(chan struct{})
	var all sync.WaitGroup
	var decided, late atomic.Int64
	for range clients {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(pause):
				}
				from := done.Load()
				answer, err := a.decide("web-01")
				to := begun.Load()
				if isLate(err) {
					late.Add(1)
					continue
				}
				if err != nil {
					t.Errorf("a decision was lost: %v", err)
					return
				}
				if err := oneRevision(answer, from, to); err != nil {
					t.Error(err)
					return
				}
				decided.Add(1)
			}
		})
	}
	for i := int64(1); i <= int64(n); i++ {
		server.set(testhost.Bundle(t, twice(fmt.Sprintf("r%d", i))))
		begun.Store(i)
		trigger()
		done.Store(i)
	}
	close(stop)
	all.Wait()
	if status, body, err := a.get("/metrics"); err != nil || status != 200 ||
		!strings.Contains(body, fmt.Sprintf(`stopguard_bundle_activations_total{bundle="fleet",result="success"} %d`, n+1)) {
		t.Errorf("not every bundle was activated: %v", err)
	}
	if decided.Load() == 0 {
		t.Error("nothing was decided")
	}
	t.Logf("%d decisions and %d late ones during %d activations", decided.Load(), late.Load(), n)
}

// isLate says that a question was answered, by the agent, with that it cannot be decided in the 2 s
// that there are: on a machine with much else to do that is the right answer, and says nothing of
// bundles.
func isLate(err error) bool {
	return err != nil && (strings.HasPrefix(err.Error(), "503: ") || strings.Contains(err.Error(), "took too long"))
}

// oneRevision checks that an answer is of one revision, and of one that was current meanwhile: not
// of an older one, which would be late.
func oneRevision(a answer, from, to int64) error {
	if a.Result.Outcome != "veto" || len(a.Result.Reasons) != 2 || a.Result.Reasons[0].Message != a.Result.Reasons[1].Message {
		return fmt.Errorf("a decision of no one bundle: %+v", a.Result)
	}
	var revision int64
	if _, err := fmt.Sscanf(a.Result.Reasons[0].Message, "r%d", &revision); err != nil {
		return err
	}
	if revision < from || revision > to {
		return fmt.Errorf("decided by r%d between the end of r%d's activation and the begin of r%d's", revision, from, to)
	}
	return nil
}
