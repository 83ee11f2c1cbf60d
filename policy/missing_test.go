package policy

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stopguard/stopguard/internal/testhost"
	"github.com/stopguard/stopguard/policy/internal/library"
)

func TestAQuestionWithoutWhatARuleReadsIsNotDecided(t *testing.T) {
	rule := func(condition string) Config {
		return Config{Sites: site("r.rego", "package stopguard.rules.r\n\nveto contains \"no\" if "+condition+"\n")}
	}
	tests := []struct {
		why    string
		config Config
		forget func(*Input)
		want   string // "" if it is decided
	}{
		{"the name of the host", rule(`startswith(input.host.name, "kvm-prod")`), func(in *Input) { in.Host.Name = "" }, "input.host.name (rule r)"},
		{"nobody reads it", rule(`input.domain.title == "x"`), func(in *Input) { in.Host.Name = "" }, ""},
		{"the running domains", rule(`count(input.host.domains) < 2`), func(in *Input) { in.Host.Domains = nil }, "input.host.domains (rule r)"},
		{"none runs, which is known", rule(`count(input.host.domains) > 2`), func(in *Input) { in.Host.Domains = []HostDomain{} }, ""},
		{"the state of one that runs", rule(`count([d | some d in input.host.domains; d.state == "running"]) < 2`),
			func(in *Input) { in.Host.Domains = []HostDomain{{Name: "a", State: "running"}, {Name: "b"}} }, "input.host.domains[].state (rule r)"},
		{"the state of one that runs is not known", rule(`count(input.host.domains) < 2`), func(in *Input) { in.Host.Domains = []HostDomain{{Name: "b", Unknown: true}} }, ""},
		{"the state of one that runs, which nothing reads", rule(`input.domain.title == "x"`), func(in *Input) { in.Host.Domains = []HostDomain{{Name: "b"}} }, ""},
		{"the host as a whole", rule(`object.get(input.host, "name", "") == "a"`), func(in *Input) { in.Host.Name = "" }, "input.host.name (rule r)"},
		{"the input as a whole", rule(`is_string(json.marshal(input))`), func(in *Input) { in.State = State{} }, "input.domain.state (rule r)"},
		{"the state", rule(`input.domain.state == "running"`), func(in *Input) { in.State = State{} }, "input.domain.state (rule r)"},
		{"its reason", rule(`input.domain.reason == "user"`), func(in *Input) { in.State = State{} }, "input.domain.state (rule r)"},
		{"its job", rule(`input.domain.job != ""`), func(in *Input) { in.State = State{} }, "input.domain.state (rule r)"},
		{"a disk's job, by the library", Config{Sites: site("data.json", `{"site": {"block_job": {}}}`)}, func(in *Input) { in.State = State{} }, "input.domain.state (rule block_job)"},
		{"the state is said not to be known", rule(`input.domain.state == "running"`), func(in *Input) { in.State = State{Unknown: true} }, ""},
		{"the state that a message names", Config{List: []byte("a\n")}, func(in *Input) { in.State = State{} }, ""},
		{"the time", Config{}, func(in *Input) { in.Time = time.Time{} }, "input.time (rule protection_mark)"},
		{"the domain's UUID", rule(`input.domain.uuid == "16e14a01-2b11-40de-a128-75e3f4a5fe12"`), func(in *Input) { d := *in.Domain; d.UUID = ""; in.Domain = &d }, "input.domain.uuid (rule"},
		{"the domain's name", Config{}, func(in *Input) { d := *in.Domain; d.Name = ""; in.Domain = &d }, "input.domain.name (rule"},
		{"a Go rule may read it", Config{Rules: map[string]Rule{"ci": says()}}, func(in *Input) { in.Host.Name = "" }, "input.host.name (rule ci)"},
		{"a Go rule reads them on demand", Config{Rules: map[string]Rule{"ci": says()}}, func(in *Input) { in.Host.Domains = nil }, ""},
		{"a caller that is not known", rule(`input.caller.uid == 0`), func(in *Input) { in.Caller = nil }, ""},
	}
	for _, tt := range tests {
		t.Run(tt.why, func(t *testing.T) {
			e := newEngine(t, tt.config)
			in := ask(parseDomain(t, plainDomain))
			if _, err := e.Decide(context.Background(), in); err != nil {
				t.Fatal(err)
			}
			tt.forget(&in)
			d, err := e.Decide(context.Background(), in)
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			testhost.WantError(t, err, tt.want, "; set it in the Input")
			var missing *MissingInputError
			if !errors.As(err, &missing) || d.Outcome != Fault {
				t.Errorf("%+v, %T", d, err)
			}
		})
	}
}

func TestAStateThatLibvirtDoesNotHaveIsAnError(t *testing.T) {
	e := newEngine(t, Config{})
	for _, tt := range []struct {
		why  string
		set  func(*Input)
		want string
	}{
		{"a capital", func(in *Input) { in.State = State{State: "Running"} }, `input.domain.state is "Running"`},
		{"virsh's word", func(in *Input) { in.State = State{State: "in shutdown"} }, `input.domain.state is "in shutdown"`},
		{"of a domain that runs", func(in *Input) { in.Host.Domains = []HostDomain{{State: "RUNNING"}} }, `input.host.domains[].state is "RUNNING"`},
	} {
		in := ask(parseDomain(t, plainDomain))
		tt.set(&in)
		d, err := e.Decide(context.Background(), in)
		testhost.WantError(t, err, "policy: "+tt.want, "; write one of nostate, running, ")
		if d.Outcome != Fault {
			t.Errorf("%s: %+v", tt.why, d)
		}
	}
	for _, state := range States() {
		in := ask(parseDomain(t, plainDomain))
		in.State = State{State: state}
		in.Host.Domains = []HostDomain{{State: state}}
		decide(t, e, in)
	}
}

// The schema of the input has the states as a rule may see them.
func TestTheSchemaHasEveryState(t *testing.T) {
	schema, err := library.InputSchema()
	if err != nil {
		t.Fatal(err)
	}
	properties := func(of any) map[string]any { return of.(map[string]any)["properties"].(map[string]any) }
	state := properties(properties(schema)["domain"])["state"].(map[string]any)
	want := []any{""}
	for _, s := range States() {
		want = append(want, s)
	}
	if diff := cmp.Diff(want, state["enum"]); diff != "" {
		t.Error(diff)
	}
}
