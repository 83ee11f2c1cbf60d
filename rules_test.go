package stopguard_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stopguard/stopguard"
	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/testhost"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/hostpolicy"
	"github.com/stopguard/stopguard/policy/record"
	"github.com/stopguard/stopguard/policy/ticket"
)

type goRules = map[string]func(context.Context, policy.Input) ([]policy.Reason, error)

const (
	webXML  = "testdata/captures/web-01/stop/stdin.xml"
	webUUID = "16e14a01-2b11-40de-a128-75e3f4a5fe12"
)

// refuse is a Go rule against every stop.
var refuse = goRules{"slot": func(_ context.Context, in policy.Input) ([]policy.Reason, error) {
	if in.Operation != policy.OperationStop {
		return nil, nil
	}
	return []policy.Reason{{Message: in.Domain.Name + " has a slot"}}, nil
}}

// askWith asks a hook with Go rules about a domain's stop.
func askWith(t *testing.T, c stopguard.Config, name, file string) answer {
	t.Helper()
	return askWithUntil(t.Context(), t, c, name, file)
}

func askWithUntil(ctx context.Context, t *testing.T, c stopguard.Config, name, file string) answer {
	t.Helper()
	var stderr bytes.Buffer
	exit := hookproto.Run(ctx, append([]string{hookFile}, stopArgs(name)...), bytes.NewReader(read(t, file)), &stderr, stopguard.Handler(c))
	return answer{exit, stderr.String()}
}

func TestAGoRuleIsARule(t *testing.T) {
	const line = "stopguard: veto: web-01: web-01 has a slot (rule slot)\n"
	veto, allow := answer{hookproto.ExitVeto, line}, answer{}
	for _, tt := range []struct {
		name, why string
		host      []string
		prepare   func(t *testing.T, root string)
		rules     goRules
		want      answer
		outcome   string // of the record
	}{
		{"it vetoes", "", nil, nil, refuse, veto, record.Veto},
		{"a dead domain is moot", "a veto would wedge it", nil, func(t *testing.T, root string) {
			pid := guest(t, webUUID).Process.Pid
			runningDomain(t, root, "web-01", string(read(t, webXML)), pid)
			status := status("crashed", "panicked", pid)
			put(t, root, "run/libvirt/qemu/web-01.xml", strings.NewReplacer(pgUUID, webUUID, pgPrimary, "web-01").Replace(status), 0o600)
		}, refuse, allow, record.Moot},
		{"a ticket lifts it", "", nil, func(t *testing.T, root string) { grant(t, root, ticket.Ticket{Domain: webUUID}) }, refuse, allow, record.Allow},
		{"monitor mode by its name", "", []string{"etc/stopguard/policy/data.yaml", "site:\n  monitor: [slot]\n"}, nil, refuse, allow, record.Allow},
		{"monitor mode of all rules", "", []string{"etc/stopguard/policy/data.yaml", "site:\n  monitor: [\"*\"]\n"}, nil, refuse, allow, record.Allow},
		{"a cluster's domain", "", []string{"etc/stopguard/policy/data.yaml", "site:\n  cluster_managed: [web-*]\n"}, nil, refuse, allow, record.Allow},
		{"the host shuts down", "", []string{"run/stopguard/shutting-down", ""}, nil, refuse, allow, record.Allow},
		{"it fails", "", nil, nil, goRules{"slot": func(context.Context, policy.Input) ([]policy.Reason, error) { return nil, errors.New("no route") }},
			answer{hookproto.ExitVeto, "stopguard: veto: web-01: rule failed: no route (rule slot)\n"}, record.Veto},
		{"it panics", "", nil, nil, goRules{"slot": func(context.Context, policy.Input) ([]policy.Reason, error) { panic("oops") }},
			answer{hookproto.ExitVeto, "stopguard: veto: web-01: rule failed: it panicked: oops (rule slot)\n"}, record.Veto},
		{"a rule that is broken while the host shuts down", "", []string{"run/stopguard/shutting-down", ""}, nil,
			goRules{"slot": func(context.Context, policy.Input) ([]policy.Reason, error) { panic("oops") }}, allow, record.Allow},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := testhost.Root(t, tt.host...)
			if tt.prepare != nil {
				tt.prepare(t, root)
			}
			if diff := cmp.Diff(tt.want, askWith(t, stopguard.Config{Root: root, Rules: tt.rules}, "web-01", webXML)); diff != "" {
				t.Errorf("%s:\n%s", tt.why, diff)
			}
			if e := last(t, root, 1); e.Result.Outcome != tt.outcome || (tt.outcome != record.Moot) != slices.Contains(e.Result.GoRules, "slot") {
				t.Errorf("%+v", e.Result)
			}
		})
	}
}

func TestAGoRuleThatBlocksIsAVetoInTime(t *testing.T) {
	t.Parallel()
	root := testhost.Root(t)
	stop := make(chan struct{})
	defer close(stop)
	got := askWithUntil(hookTime(t), t, stopguard.Config{Root: root, Rules: goRules{"slot": func(context.Context, policy.Input) ([]policy.Reason, error) {
		<-stop
		return nil, nil
	}}}, "web-01", webXML)
	if got.Exit == hookproto.ExitAllow {
		t.Errorf("%+v", got)
	}
	// On a host under load it is the hook that is late, which is a fault and says so.
	if got.Exit == hookproto.ExitVeto && !strings.Contains(got.Line, "(rule slot)") {
		t.Errorf("%+v", got)
	}
}

func TestAGoRuleHoldsAtEveryEnforcementPoint(t *testing.T) {
	root := testhost.Root(t)
	domain := domain(t, read(t, webXML))
	cached := &hostpolicy.EngineCache{Root: root}
	for _, c := range []stopguard.Config{{Root: root, Rules: refuse}, {Root: root, Rules: refuse, Engine: cached.Engine}} {
		if got := askWith(t, c, "web-01", webXML); got.Exit != hookproto.ExitVeto {
			t.Errorf("hook: %+v", got)
		}
		decide := stopguard.Decide(c)
		var veto *hookproto.Veto
		if err := decide(context.Background(), stopguard.Request{Operation: policy.OperationStop, Domain: domain}); !errors.As(err, &veto) || veto.Rule != "slot" {
			t.Errorf("request: %v", err)
		}
		if err := decide(context.Background(), stopguard.Request{Operation: policy.OperationReset, Domain: domain}); err != nil {
			t.Errorf("a request that the rule has nothing against: %v", err)
		}
	}
}

func TestADomainThatAGoRuleProtectsAndThatWentDownEscaped(t *testing.T) {
	root := testhost.Root(t)
	handler := stopguard.Handler(stopguard.Config{Root: root, Rules: refuse})
	xml := bytes.NewReader(read(t, webXML))
	if code := hookproto.Run(context.Background(), []string{hookFile, "web-01", "release", "end", "destroyed"}, xml, nil, handler); code != 0 {
		t.Error(code)
	}
	if e := last(t, root, 1); e.Result.Outcome != record.Escape || !strings.HasPrefix(e.Result.Detail, "it was destroyed") || e.Result.Reasons[0].Rule != "slot" {
		t.Errorf("%+v", e.Result)
	}
}

func TestAGoRuleWithTheNameOfAnotherRuleIsAFault(t *testing.T) {
	for _, tt := range []struct{ name, why string }{
		{"protected_list", "of the library"}, {"site", "of the site"}, {"no-name", "not a name"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := testhost.Root(t, "etc/stopguard/policy/site.rego", "package stopguard.rules.site\n\nveto contains \"x\" if input.domain.title == \"x\"\n")
			got := askWith(t, stopguard.Config{Root: root, Rules: goRules{tt.name: refuse["slot"]}}, "web-01", webXML)
			if got.Exit != hookproto.ExitFault || !strings.Contains(got.Line, "Go rule") {
				t.Errorf("%s: %+v", tt.why, got)
			}
		})
	}
}

// A Go rule that counts the running domains takes the lock that a Rego rule does.
func TestAGoRuleMayCountTheRunningDomains(t *testing.T) {
	root := testhost.Root(t)
	xml := string(read(t, webXML))
	runningDomain(t, root, "web-01", xml, guest(t, webUUID).Process.Pid)
	var late func(context.Context) ([]policy.HostDomain, error)
	count := goRules{"last": func(ctx context.Context, in policy.Input) ([]policy.Reason, error) {
		late = in.Host.Running
		domains, err := in.Host.Running(ctx)
		if err != nil {
			return nil, err
		}
		if stays := slices.DeleteFunc(slices.Clone(domains), func(d policy.HostDomain) bool { return d.Stopping }); len(stays) > 1 {
			return nil, nil
		}
		return []policy.Reason{{Message: "it is the last one"}}, nil
	}}
	got := askWith(t, stopguard.Config{Root: root, Rules: count}, "web-01", webXML)
	if got.Exit != hookproto.ExitVeto || !strings.Contains(got.Line, "it is the last one") {
		t.Errorf("%+v", got)
	}
	e := last(t, root, 1)
	domains := e.Input.(map[string]any)["host"].(map[string]any)["domains"].([]any)
	if len(domains) != 1 {
		t.Errorf("the record has %v", domains)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if domains, err := late(ctx); err != nil && domains != nil {
		t.Errorf("after the decision: %v, %v", domains, err)
	}
	// The lock is free.
	if got := askWith(t, stopguard.Config{Root: root, Rules: count}, "web-01", webXML); got.Exit != hookproto.ExitVeto {
		t.Errorf("%+v", got)
	}
}

func TestInputsAreThoseOfTheRunningDomains(t *testing.T) {
	root := testhost.Root(t)
	runningDomain(t, root, "web-01", string(read(t, webXML)), guest(t, webUUID).Process.Pid)
	runningDomain(t, root, pgPrimary, string(read(t, capture)), guest(t, pgUUID).Process.Pid)
	c := stopguard.Config{Root: root}
	engine, err := policy.New(context.Background(), policy.Config{List: []byte("web-01\n")})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]policy.Outcome{}
	for in, err := range c.Inputs(engine) {
		if err != nil {
			t.Fatal(err)
		}
		d, err := engine.Decide(context.Background(), in)
		if err != nil {
			t.Fatal(err)
		}
		got[in.Domain.Name] = d.Outcome
	}
	if diff := cmp.Diff(map[string]policy.Outcome{"web-01": policy.Veto, pgPrimary: policy.Veto}, got); diff != "" {
		t.Error(diff)
	}
	for range c.Inputs(engine) {
		break // the loop may be left
	}
}
