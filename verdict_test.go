package stopguard_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/stopguard/stopguard"
	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/hookproto/remote"
	"github.com/stopguard/stopguard/hookproto/remote/serve"
	"github.com/stopguard/stopguard/internal/hostgen"
	"github.com/stopguard/stopguard/internal/hostpath"
	"github.com/stopguard/stopguard/internal/operation"
	"github.com/stopguard/stopguard/internal/recorded"
	"github.com/stopguard/stopguard/internal/tool/check"
	"github.com/stopguard/stopguard/internal/tool/explain"
	"github.com/stopguard/stopguard/internal/tool/replay"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/hostpolicy"
	"github.com/stopguard/stopguard/policy/record"
	"github.com/stopguard/stopguard/policy/ticket"
)

// The paths to a verdict are compared on generated hosts. If two differ, the host is made smaller
// while they do, and is left on disk.

var verdictSeed = flag.Uint64("verdict-seed", 17, "generate other hosts, of which all paths must say the same")

// An opinion is what one path says about one question.
type opinion struct {
	path    string
	refused bool
	until   time.Time
	reasons string // "" if the path does not show them
	ticket  string // that lifts the veto
	fault   string
}

const (
	verdictHosts   = 100
	verdictDomains = 100 // of each
)

// A short run has fewer hosts, and fewer domains of each. What differs between two paths mostly
// depends on the host.
const (
	shortVerdictHosts   = 10
	shortVerdictDomains = 20
)

func TestPromise8_one_verdict_everywhere(t *testing.T) {
	hosts, domains, share := verdictHosts, verdictDomains, 10
	if isRaced { // the race detector makes it ten times slower
		hosts = shortVerdictHosts
	}
	if testing.Short() {
		hosts, domains, share = shortVerdictHosts, shortVerdictDomains, 100 // ten hosts may be much alike
	}
	t.Logf("seed %d; another one: go test . -run TestPromise8_one_verdict_everywhere -verdict-seed N", *verdictSeed)
	now := time.Now()
	var seen census
	var workers sync.WaitGroup
	next := make(chan int)
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for i := range next {
				random := rand.New(rand.NewPCG(*verdictSeed, uint64(i)))
				host := hostgen.Generate(random, now, hostgen.Domains(random, domains))
				at, difference := compareHost(t, host, t.TempDir(), &seen)
				if difference != "" {
					reportDifference(t, i, host.Only(at), difference)
				}
			}
		})
	}
	for i := range hosts {
		next <- i
	}
	close(next)
	workers.Wait()
	seen.check(t, hosts*domains, share)
}

// reportDifference leaves the smallest host on disk for which two paths differ.
func reportDifference(t *testing.T, i int, host hostgen.Host, difference string) {
	host = host.Smallest(func(smaller hostgen.Host) bool {
		_, text := compareHost(t, smaller, t.TempDir(), nil)
		if text != "" {
			difference = text
		}
		return text != ""
	})
	root, err := os.MkdirTemp("", "verdict-")
	if err == nil {
		err = os.WriteFile(filepath.Join(root, "domain.xml"), []byte(host.Domains[0].XML()), 0o600)
	}
	release, putErr := host.Put(root)
	release()
	t.Errorf("host %d of seed %d: %s\n%s\nSTOPGUARD_ROOT=%s stopguard check --operation %s %[5]s/domain.xml # without its holds, which ended (%v)",
		i, *verdictSeed, difference, host, root, host.Domains[0].Operation, errors.Join(err, putErr))
}

// compareHost asks every path about every domain. It returns the first domain about which two
// differ, and how.
func compareHost(t *testing.T, host hostgen.Host, root string, seen *census) (int, string) {
	release, err := host.Put(root)
	defer release()
	if err != nil {
		t.Fatal(err)
	}
	p := newPaths(t, root, host)
	defer p.close()
	checked, err := p.check()
	if err != nil {
		return 0, err.Error()
	}
	for i, d := range host.Domains {
		opinions := p.askInTime(d)
		if d.At.IsZero() {
			opinions = append(opinions, checked[i])
			if i == 0 {
				opinions = append(opinions, p.explain(d))
			}
		}
		if seen != nil {
			seen.count(opinions)
		}
		if text := differences(opinions); text != "" {
			return i, fmt.Sprintf("%s of %s at %v:\n%s", d.Operation, d.Name, p.now(), text)
		}
	}
	return p.replay()
}

// differences says how opinions differ; "" if they do not.
func differences(opinions []opinion) string {
	first := opinions[0]
	differs := func(o opinion) bool {
		return o.fault != "" || o.refused != first.refused ||
			o.reasons != "" && (o.reasons != first.reasons || !o.until.Equal(first.until) || o.ticket != first.ticket)
	}
	if !slices.ContainsFunc(opinions, differs) {
		return ""
	}
	var b strings.Builder
	for _, o := range opinions {
		fmt.Fprintf(&b, "%-8s refused %v, until %v, reasons %s, ticket %q %s\n", o.path, o.refused, o.until, o.reasons, o.ticket, o.fault)
	}
	return b.String()
}

// paths are the paths to a verdict on one host.
type paths struct {
	t      *testing.T
	root   string
	host   hostgen.Host
	engine func() (*policy.Engine, error)
	server *http.Server
	all    []record.Event // that a replay decides once more

	mu     sync.Mutex // the agent's questions are answered by other goroutines
	at     time.Time
	events []record.Event // of the last question
}

func newPaths(t *testing.T, root string, host hostgen.Host) *paths {
	p := &paths{t: t, root: root, host: host, engine: sync.OnceValues(func() (*policy.Engine, error) {
		config, err := hostpolicy.Load(root)
		if err != nil {
			return nil, err
		}
		return policy.New(t.Context(), config)
	})}
	socket := filepath.Join(root, remote.Socket)
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", socket)
	if err == nil {
		err = os.Chmod(socket, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle(remote.Path, serve.Handler(stopguard.Handler(p.config())))
	p.server = &http.Server{Handler: mux}
	go func() { _ = p.server.Serve(listener) }()
	return p
}

func (p *paths) close() { _ = p.server.Close() }

func (p *paths) now() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.at
}

func (p *paths) setNow(at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at = at
}

func (p *paths) addEvent(e record.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.events = append(p.events, e)
}

// takeEvents returns the events since its last call.
func (p *paths) takeEvents() []record.Event {
	p.mu.Lock()
	defer p.mu.Unlock()
	events := p.events
	p.events = nil
	return events
}

// config is that of a program which stays, such as the agent and the gate.
func (p *paths) config() stopguard.Config {
	return stopguard.Config{Root: p.root, Now: p.now, Engine: func(context.Context) (*policy.Engine, error) { return p.engine() }, Record: func(_ context.Context, e record.Event) error {
		p.addEvent(e)
		return nil
	}}
}

// askInTime is ask, once more while a busy machine makes a decision late.
func (p *paths) askInTime(d hostgen.Domain) []opinion {
	opinions := p.ask(d)
	for range 10 {
		if !slices.ContainsFunc(opinions, func(o opinion) bool { return strings.Contains(o.fault, "took too long") }) {
			break
		}
		opinions = p.ask(d)
	}
	return opinions
}

// ask asks every path about a domain, but for the tool's commands.
func (p *paths) ask(d hostgen.Domain) []opinion {
	at := time.Now()
	if !d.At.IsZero() {
		at = d.At.Add(d.Shift)
	}
	p.setNow(at)
	domain, err := domainxml.Parse([]byte(d.XML()))
	if err != nil {
		p.t.Fatal(err)
	}
	request := stopguard.Request{Operation: d.Operation, Domain: domain, Deferred: true, Procedure: "DOMAIN_DESTROY"}
	opinions := []opinion{p.library(d, domain)}
	opinions = append(opinions, p.answered("preview", d, func() error { return stopguard.Preview(p.config())(p.t.Context(), request) }))
	opinions = append(opinions, p.answered("gate", d, func() error { return stopguard.Decide(p.config())(p.t.Context(), request) }))
	if d.Operation != policy.OperationStop {
		return opinions
	}
	return append(opinions,
		p.answered("hook", d, func() error {
			var stderr bytes.Buffer
			exit := hookproto.Run(p.t.Context(), append([]string{hookFile}, stopArgs(d.Name)...), strings.NewReader(d.XML()), &stderr, stopguard.Handler(p.config()))
			switch exit {
			case hookproto.ExitAllow:
				return nil
			case hookproto.ExitVeto:
				return &hookproto.Veto{Reason: stderr.String()}
			}
			return errors.New(stderr.String())
		}),
		p.answered("agent", d, func() error {
			event := &hookproto.Event{Domain: d.Name, Op: hookproto.OpStop, SubOp: "begin", Extra: "-", Stdin: strings.NewReader(d.XML())}
			return remote.Agent{Root: p.root}.Ask(p.t.Context(), event)
		}))
}

// library is a program that decides by an engine, and shows why.
func (p *paths) library(d hostgen.Domain, domain *domainxml.Domain) opinion {
	engine, err := p.engine()
	if err != nil {
		return opinion{path: "library", fault: err.Error()}
	}
	in, err := p.config().Input(engine, domain, hookproto.Process{})
	if err != nil {
		return opinion{path: "library", fault: err.Error()}
	}
	in.Operation = d.Operation
	decision, err := engine.Decide(p.t.Context(), in)
	if err != nil {
		return opinion{path: "library", fault: err.Error()}
	}
	x, err := engine.Explain(p.t.Context(), in)
	if err != nil {
		return opinion{path: "library", fault: err.Error()}
	}
	o := opinion{path: "library", until: decision.Until(), reasons: reasonsOf(recorded.Reasons(decision.Reasons), recorded.Reasons(decision.Monitored))}
	if explained := reasonsOf(recorded.Reasons(x.Decision.Reasons), recorded.Reasons(x.Decision.Monitored)); explained != o.reasons || x.Decision.Outcome != decision.Outcome {
		o.fault = "it is explained by " + explained
	}
	var over bool
	if o.ticket, o.refused, over = p.lifted(engine, in); over || !o.until.IsZero() && !o.until.After(p.now().Truncate(time.Second)) {
		o.fault = "the ticket, or the reason, is over"
	}
	return o
}

// lifted returns the ticket that would lift the veto, and reports whether the operation is refused.
// The former name of two operations takes a ticket for each that is refused. over is set if a
// ticket lifts it whose time is over.
func (p *paths) lifted(engine *policy.Engine, in policy.Input) (id string, refused, over bool) {
	list, _ := ticket.Store{Root: p.root}.List(in.Time)
	for _, name := range operation.Expand(in.Operation) {
		in.Operation = name
		decision, err := engine.Decide(p.t.Context(), in)
		if err != nil {
			p.t.Fatal(err)
		}
		if decision.Outcome == policy.Allow {
			continue
		}
		tickets := ticket.Store{Root: p.root, Required: engine.Approvals().For(in.Domain.Name, in.Domain.UUID, name)}
		t, ok := tickets.Serving(list, policy.Incarnation{UUID: in.Domain.UUID}, in.Domain.Name, name)
		if !ok {
			return "", true, over
		}
		id, over = cmp.Or(id, t.ID), over || in.Time.After(t.NotAfter)
	}
	return id, false, over
}

// answered is a path that answers yes or no, and whose record has the rest.
func (p *paths) answered(path string, d hostgen.Domain, ask func() error) opinion {
	err := ask()
	events := p.takeEvents()
	o := opinion{path: path, refused: err != nil}
	var veto *hookproto.Veto
	if err != nil && !errors.As(err, &veto) {
		o.fault = err.Error()
	}
	p.forgetClaims()
	for _, e := range events {
		if e.Input != nil { // which a busy machine leaves out
			p.all = append(p.all, e)
		}
	}
	if len(events) != 1 || len(operation.Expand(d.Operation)) > 1 {
		return o
	}
	result := events[0].Result
	decision := policy.Decision{}
	for _, r := range result.Reasons {
		decision.Reasons = append(decision.Reasons, policy.Reason(r))
	}
	o.until, o.reasons = decision.Until(), reasonsOf(result.Reasons, result.Monitored)
	if result.Ticket != nil {
		o.ticket = result.Ticket.ID
	}
	return o
}

// forgetClaims lets the next path take the tickets that one has taken.
func (p *paths) forgetClaims() {
	claims, err := filepath.Glob(filepath.Join(p.root, "var/lib/stopguard/tickets/*.taken"))
	for _, name := range claims {
		err = errors.Join(err, os.Remove(name))
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// sinceNow is the time in the reason of a hold that cannot be read, which is that of the question.
var sinceNow = regexp.MustCompile(`since \S+: (\S+ cannot be read)`)

// reasonsOf returns reasons as a text that is never empty.
func reasonsOf(reasons, monitored []record.Reason) string {
	text, err := json.Marshal([][]record.Reason{slices.Clip(reasons), slices.Clip(monitored)})
	if err != nil {
		panic(err)
	}
	return sinceNow.ReplaceAllString(strings.ReplaceAll(string(text), "null", "[]"), "$1")
}

// toolMutex is held while a command of the tool runs: it finds its host in the environment.
var toolMutex sync.Mutex

// tool runs a command of the tool.
func (p *paths) tool(command *cobra.Command, args ...string) (stdout []byte, err error) {
	toolMutex.Lock()
	defer toolMutex.Unlock()
	if err := os.Setenv(hostpath.RootVariable, p.root); err != nil {
		return nil, err
	}
	defer os.Unsetenv(hostpath.RootVariable)
	var out bytes.Buffer
	command.SetArgs(args)
	command.SetOut(&out)
	command.SetErr(io.Discard)
	command.SilenceErrors, command.SilenceUsage = true, true
	err = command.ExecuteContext(p.t.Context())
	return out.Bytes(), err
}

// check returns what the command says about the domains that are asked about now.
func (p *paths) check() (map[int]opinion, error) {
	opinions := map[int]opinion{}
	files := map[string][]string{}
	order := map[string][]int{}
	for i, d := range p.host.Domains {
		if !d.At.IsZero() {
			continue
		}
		file := filepath.Join(p.root, fmt.Sprintf("%d.xml", i))
		if err := os.WriteFile(file, []byte(d.XML()), 0o600); err != nil {
			return nil, err
		}
		files[d.Operation] = append(files[d.Operation], file)
		order[d.Operation] = append(order[d.Operation], i)
	}
	for name, args := range files {
		out, err := p.tool(check.Command(), append([]string{"-o", "json", "--operation", name}, args...)...)
		var report struct {
			Domains []struct{ shown }
		}
		if err = cmp.Or(err, json.Unmarshal(out, &report)); err != nil {
			return nil, fmt.Errorf("check --operation %s: %w\n%s", name, err, out)
		}
		for j, d := range report.Domains {
			opinions[order[name][j]] = d.opinion("check")
		}
	}
	return opinions, nil
}

// A shown is a verdict as the tool writes it.
type shown struct {
	Outcome   string
	Until     time.Time
	Reasons   []record.Reason
	Monitored []record.Reason
	Ticket    string
	Fault     string
}

func (s shown) opinion(path string) opinion {
	o := opinion{path: path, until: s.Until, reasons: reasonsOf(s.Reasons, s.Monitored), fault: s.Fault}
	if s.Outcome == record.Veto {
		o.refused, o.ticket = s.Ticket == "", s.Ticket
	}
	return o
}

func (p *paths) explain(d hostgen.Domain) opinion {
	out, err := p.tool(explain.Command(), d.Name, "--xml", filepath.Join(p.root, "0.xml"), "--operation", d.Operation, "-o", "json")
	var s shown
	if err = cmp.Or(err, json.Unmarshal(out, &s)); err != nil {
		return opinion{path: "explain", fault: err.Error()}
	}
	return s.opinion("explain")
}

// replay decides what is on record once more, by the host's own policy. It returns the first domain
// about which that differs, and how. What a record lacks cannot be replayed.
func (p *paths) replay() (int, string) {
	var lines bytes.Buffer
	for _, e := range p.all {
		if err := json.NewEncoder(&lines).Encode(e); err != nil {
			return 0, err.Error()
		}
	}
	file := filepath.Join(p.root, "decisions.jsonl")
	if err := os.WriteFile(file, lines.Bytes(), 0o600); err != nil {
		return 0, err.Error()
	}
	out, err := p.tool(replay.Command(), "--policy", filepath.Join(p.root, hostpath.Policy), "-o", "json", file)
	var result struct {
		Records, Same int
		NotReplayed   int `json:"not_replayed"`
		Torn          int
		Changes       []struct{ Domain string }
	}
	if json.Unmarshal(out, &result) != nil {
		return 0, fmt.Sprintf("replay: %v", err)
	}
	showsAll := slices.ContainsFunc(p.host.Rules, func(r hostgen.Rule) bool { return r.File == "mask.rego" })
	switch {
	case len(result.Changes) > 0:
		name := result.Changes[0].Domain
		return max(0, slices.IndexFunc(p.host.Domains, func(d hostgen.Domain) bool { return d.Name == name })), "replay: " + string(out)
	case result.Records != len(p.all) || result.Torn > 0 || result.Same+result.NotReplayed != result.Records || showsAll && result.NotReplayed > 0:
		return 0, "replay does not play all: " + string(out)
	}
	return 0, ""
}

// A census counts what the generated hosts hold, so that they do not come to hold nothing.
type census struct {
	sync.Mutex
	questions, refused, lifted, lapses, monitored, asked int
}

func (c *census) count(opinions []opinion) {
	c.Lock()
	defer c.Unlock()
	c.questions++
	c.asked += len(opinions)
	for _, x := range []struct {
		n  *int
		is bool
	}{{&c.refused, opinions[0].refused}, {&c.lifted, opinions[0].ticket != ""}, {&c.lapses, !opinions[0].until.IsZero()}, {&c.monitored, !strings.HasSuffix(opinions[0].reasons, ",[]]")}} {
		if x.is {
			*x.n++
		}
	}
}

// check fails unless there were so many questions, and of each kind one in share.
func (c *census) check(t *testing.T, want, share int) {
	t.Logf("%d questions, %d answers: %d refused, %d lifted by a ticket, %d until a time, %d monitored", c.questions, c.asked, c.refused, c.lifted, c.lapses, c.monitored)
	if t.Failed() {
		return
	}
	if c.questions != want || min(c.refused, c.questions-c.refused, c.lapses, c.monitored) < want/share || c.lifted < want/share/5 {
		t.Errorf("of %d questions too few are of a kind", want)
	}
}
