package policy

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/opa/v1/ast"
	"golang.org/x/tools/txtar"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/internal/testhost"
	"github.com/stopguard/stopguard/policy/internal/document"
	"github.com/stopguard/stopguard/policy/internal/jsontree"
	"github.com/stopguard/stopguard/policy/internal/library"
)

// written returns the whole input in the form of a client, or of a record without a mask.
func written(t testing.TB, e *Engine, in Input) []byte {
	t.Helper()
	value, err := inputValue(in, e.list.Match(in.Domain.Name, in.Domain.UUID), document.Reads{All: true}.Tree())
	if err != nil {
		t.Fatal(err)
	}
	plain, err := ast.JSON(value)
	if err != nil {
		t.Fatal(err)
	}
	content, err := json.Marshal(plain)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func parseDocument(t testing.TB, content []byte, hidden ...string) *Document {
	t.Helper()
	d, err := ParseDocument(content, hidden)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// readEverything is a policy whose rules look at all that there is, and say what they saw.
const readEverything = head + `veto contains sprintf("%v", [input.domain.disks])
veto contains message if {
	some domain in input.host.domains
	message := sprintf("%v %v", [domain, input.caller])
}
veto contains crypto.sha256(json.marshal(input)) if count(input) > 0
note contains input.domain.title if input.domain.title != ""
`

// The engine's answer must not depend on whether it was given a domain or the document that was
// made of it.
func TestADocumentIsDecidedAsItsDomainIs(t *testing.T) {
	engines := map[string]*Engine{
		"the library alone":          newEngine(t, Config{List: []byte("web-*\nprotected-vm\n")}),
		"rules that read everything": newEngine(t, Config{List: []byte("web-*\n"), Sites: site("freeze.rego", readEverything)}),
		"a cluster's":                newEngine(t, Config{List: []byte("*\n"), Sites: site("data.json", `{"site": {"cluster_managed": ["web-*", "pg-*"]}}`)}),
		"monitored":                  newEngine(t, Config{List: []byte("*\n"), Sites: site("data.json", `{"site": {"monitor": ["protected_list"]}}`)}),
		"a rule that fails":          newEngine(t, Config{List: []byte("*\n"), Sites: site("freeze.rego", head+`veto contains "x" if to_number(input.domain.name) == 1`)}),
	}
	var domains []*domainxml.Domain
	for _, root := range []string{"../domainxml/testdata/corpus", "../testdata/captures"} {
		err := filepath.WalkDir(root, func(name string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(name, ".xml") {
				return err
			}
			content, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			if d, err := domainxml.Parse(content); err == nil {
				domains = append(domains, d)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(domains) < 50 {
		t.Fatalf("only %d domains", len(domains))
	}
	every, fewest := 1, 50
	if testing.Short() { // what is written of a domain hardly depends on which it is
		every, fewest = 4, 10
	}
	inputs := []Input{fullInput(t)}
	for i := 0; i < len(domains); i += every {
		inputs = append(inputs, ask(domains[i]))
	}
	vetoes := 0
	for name, e := range engines {
		for _, in := range inputs {
			want, wantErr := e.Decide(context.Background(), in)
			got, err := e.DecideDocument(context.Background(), parseDocument(t, written(t, e, in)))
			if diff := cmp.Diff(want, got); diff != "" || err != nil || wantErr != nil {
				t.Errorf("%s, %s: %v, %v\n%s", name, in.Domain.Name, wantErr, err, diff)
			}
			if got.Outcome == Veto {
				vetoes++
			}
		}
	}
	if vetoes < fewest {
		t.Errorf("only %d vetoes: they show nothing", vetoes)
	}
	in := fullInput(t)
	in.ShuttingDown = true
	e := engines["rules that read everything"]
	d := parseDocument(t, written(t, e, in))
	d.ShuttingDown = true
	got, err := e.DecideDocument(context.Background(), d)
	if diff := cmp.Diff(decide(t, e, in), got); diff != "" || err != nil {
		t.Errorf("shutting down: %v\n%s", err, diff)
	}
}

// Clients that do not know holds leave them out of their documents. The holds of the deciding host
// must then refuse all the same.
func TestADocumentWithoutHoldsIsRefusedByTheHosts(t *testing.T) {
	e := newEngine(t, Config{})
	hold := Hold{Holder: "root", PID: 4711, Reason: "nightly backup", Since: time.Unix(1, 0), Operations: []string{OperationStop, OperationReset, OperationModify}}
	for _, tt := range []struct {
		why, operation string
		hasHolds       bool // whether the document has the field
		want           bool
	}{
		{"a stop", OperationStop, false, true},
		{"another operation that the hold names", OperationReset, false, true},
		{"the former name of two operations", "tamper", false, true},
		{"an operation that the hold does not name", OperationPause, false, false},
		{"a document with holds of its own", OperationStop, true, false},
	} {
		t.Run(tt.why, func(t *testing.T) {
			in := fullInput(t)
			in.Holds = nil
			var all map[string]any
			if err := json.Unmarshal(written(t, e, in), &all); err != nil {
				t.Fatal(err)
			}
			all["operation"] = tt.operation
			if !tt.hasHolds {
				delete(all["domain"].(map[string]any), "holds")
			}
			content, err := json.Marshal(all)
			if err != nil {
				t.Fatal(err)
			}
			d := parseDocument(t, content)
			d.Holds = []Hold{hold}
			decision, err := e.DecideDocument(t.Context(), d)
			if err != nil {
				t.Fatal(err)
			}
			replayed, err := e.Replay(t.Context(), d)
			if err != nil {
				t.Fatal(err)
			}
			for name, reasons := range map[string][]Reason{"DecideDocument": decision.Reasons, "Replay": replayed.Decision.Reasons} {
				if got := slices.ContainsFunc(reasons, func(r Reason) bool { return r.Rule == "hold" }); got != tt.want {
					t.Errorf("%s: the hold refuses: %v, want %v", name, got, tt.want)
				}
			}
		})
	}
}

// configBelow returns the configuration of a host's policy folder and list. Bundles are left out.
func configBelow(t *testing.T, root string) Config {
	t.Helper()
	var c Config
	if folder := filepath.Join(root, "etc/stopguard/policy"); isFolder(folder) {
		c.Sites = []Site{{FS: os.DirFS(folder)}}
	}
	var err error
	if c.List, err = os.ReadFile(filepath.Join(root, "etc/libvirt/protected-domains")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return c
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func TestEveryScenarioIsDecidedAlikeByItsDocument(t *testing.T) {
	files, err := filepath.Glob("../testdata/scenarios/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		root, stdin := t.TempDir(), ""
		for _, f := range archive.Files {
			if name, ok := strings.CutPrefix(f.Name, "host/"); ok {
				name = filepath.Join(root, name)
				if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, f.Data, 0o644)); err != nil {
					t.Fatal(err)
				}
			}
			if f.Name == "stdin" {
				stdin = string(f.Data)
			}
			if f.Name == "stdin-file" {
				content, err := os.ReadFile(filepath.Join("..", strings.TrimSpace(string(f.Data))))
				if err != nil {
					t.Fatal(err)
				}
				stdin = string(content)
			}
		}
		domain, err := domainxml.Parse([]byte(stdin))
		if err != nil {
			continue // a fault, before any policy
		}
		e, err := New(context.Background(), configBelow(t, root))
		if err != nil {
			continue
		}
		asked++
		got, err := e.DecideDocument(context.Background(), parseDocument(t, written(t, e, ask(domain))))
		if diff := cmp.Diff(decide(t, e, ask(domain)), got); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", file, err, diff)
		}
	}
	if asked < 10 {
		t.Errorf("only %d scenarios came to the policy", asked)
	}
}

func TestADocumentIsReadStrictly(t *testing.T) {
	e := newEngine(t, Config{List: []byte("pg-*\n")})
	good := string(written(t, e, fullInput(t)))
	change := func(old, new string) string {
		t.Helper()
		if !strings.Contains(good, old) {
			t.Fatalf("%s is not in the document", old)
		}
		return strings.Replace(good, old, new, 1)
	}
	tests := []struct {
		why, content string
		parts        []string
	}{
		{"nothing", ``, []string{"no JSON"}},
		{"no object", `[]`, []string{"not an object"}},
		{"two of one key", `{"version": 1, "version": 1}`, []string{"no JSON", "version"}},
		{"no version", `{}`, []string{"no version", `"version": 1`}},
		{"a version to come", change(`"version":1`, `"version":2`), []string{"version is 2"}},
		{"a version of another kind", change(`"version":1`, `"version":"1"`), []string{`version is "1"`}},
		{"a version that only counts as 1", change(`"version":1`, `"version":1.0`), []string{`version is 1.0`}},
		{"a misspelt field", change(`"operation"`, `"opperation"`), []string{"input has a field", "opperation", "version 1"}},
		{"a misspelt field below a list", change(`"bus"`, `"buss"`), []string{"input.domain.disks[] has a field", "buss"}},
		{"null", change(`"operation":"stop"`, `"operation":null`), []string{"input.operation is null"}},
		{"a string for a list", change(`"listed":["pg-*"]`, `"listed":"pg-*"`), []string{"input.domain.listed"}},
		{"a number for a string", change(`"listed":["pg-*"]`, `"listed":[7]`), []string{"input.domain.listed[]"}},
		{"a number that is none of Go's", change(`"vcpus":2`, `"vcpus":1e3`), []string{"input.domain.vcpus is 1e3"}},
		{"a time of nowhere", change(`"2026-11-22T12:00:00Z"`, `"noon"`), []string{"input.time", "noon"}},
		{"a time of somewhere else", change(`"2026-11-22T12:00:00Z"`, `"2026-11-22T12:00:00+01:00"`), []string{"input.time", "UTC"}},
		{"no operation", change(`"operation":"stop"`, `"operation":""`), []string{"input.operation is empty"}},
		{"a UUID in capitals", change(`"uuid":"d19e7151-`, `"uuid":"D19E7151-`), []string{"input.domain.uuid", "lower case"}},
		{"half a number", change(`"vcpus":2`, `"vcpus":0.5`), []string{"input.domain.vcpus is 0.5"}},
		{"an attribute that is no string", change(`"attributes":{"id":`, `"attributes":{"a":[],"id":`), []string{"attributes.a is"}},
	}
	for _, tt := range tests {
		t.Run(tt.why, func(t *testing.T) {
			_, err := ParseDocument([]byte(tt.content), nil)
			testhost.WantError(t, err, tt.parts...)
		})
	}
}

func TestWhatADocumentLacksIsNamed(t *testing.T) {
	e := newEngine(t, Config{Sites: site("freeze.rego", head+`veto contains "frozen" if {
	some domain in input.host.domains
	domain.name == "a"
}`)})
	whole := written(t, e, fullInput(t))
	without := func(path ...string) []byte {
		var all map[string]any
		if err := json.Unmarshal(whole, &all); err != nil {
			t.Fatal(err)
		}
		at := all
		for _, part := range path[:len(path)-1] {
			at = at[part].(map[string]any)
		}
		delete(at, path[len(path)-1])
		content, err := json.Marshal(all)
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	mark := MissingInput{"protection_mark", []string{"input.domain.metadata"}}
	frozen := []Reason{{Rule: "freeze", Message: "frozen"}}
	tests := []struct {
		why     string
		content []byte
		hidden  []string
		lacks   []MissingInput
		reasons []Reason
	}{
		{"nothing is missing", whole, nil, nil, append(frozen[:1:1], protectedUntil(t, e))},
		{"what no rule reads", without("xml"), nil, nil, append(frozen[:1:1], protectedUntil(t, e))},
		{"likewise, below what a rule reads", without("domain", "disks"), nil, nil, append(frozen[:1:1], protectedUntil(t, e))},
		{"what a rule of the library reads", without("domain", "metadata"), nil, []MissingInput{mark}, frozen},
		{"erased, as the library's mask does", without("domain", "metadata"), []string{"/input/domain/metadata", "/input/xml"}, []MissingInput{mark}, frozen},
		{"masked by a value of the right form", whole, []string{"/input/domain/metadata"}, []MissingInput{mark}, frozen},
		{"a part of it", whole, []string{"/input/domain/metadata/0/attributes/reason"},
			[]MissingInput{{"protection_mark", []string{"input.domain.metadata[].attributes.reason"}}}, frozen},
		{"a field of an item", whole, []string{"/input/host/domains/0/metadata"},
			[]MissingInput{{"freeze", []string{"input.host.domains[].metadata"}}}, []Reason{protectedUntil(t, e)}},
		{"all that holds it", without("host"), nil,
			[]MissingInput{{"freeze", []string{"input.host"}}}, []Reason{protectedUntil(t, e)}},
	}
	for _, tt := range tests {
		t.Run(tt.why, func(t *testing.T) {
			d := parseDocument(t, tt.content, tt.hidden...)
			r, err := e.Replay(context.Background(), d)
			if diff := cmp.Diff(tt.lacks, r.Missing); diff != "" || err != nil {
				t.Errorf("%v\n%s", err, diff)
			}
			if diff := cmp.Diff(tt.reasons, r.Decision.Reasons); diff != "" {
				t.Error(diff)
			}
			decision, err := e.DecideDocument(context.Background(), d)
			var lack *MissingInputError
			if (tt.lacks != nil) != errors.As(err, &lack) || lack != nil && !reflect.DeepEqual(decision, Decision{}) {
				t.Errorf("%+v, %v", decision, err)
			}
		})
	}
	t.Run("without its name nothing is decided", func(t *testing.T) {
		for _, hidden := range []string{"/input/domain/name", "/input/domain", "/input"} {
			_, err := e.Replay(context.Background(), parseDocument(t, whole, hidden))
			var lack *MissingInputError
			if !errors.As(err, &lack) {
				t.Errorf("%s: %v", hidden, err)
				continue
			}
			testhost.WantError(t, err, "lacks", "input")
		}
	})
	t.Run("a pointer to somewhere else", func(t *testing.T) {
		_, err := ParseDocument(whole, []string{"/result"})
		testhost.WantError(t, err, "/result", "/input")
	})
}

// protectedUntil returns the reason of the mark in fullInput's domain.
func protectedUntil(t *testing.T, e *Engine) Reason {
	for _, r := range decide(t, e, fullInput(t)).Reasons {
		if r.Rule == "protection_mark" {
			return r
		}
	}
	t.Fatal("its mark says nothing")
	return Reason{}
}

// Whatever a rule reads is known of it, or a document that lacks it would pass for whole.
func TestTheReadsOfTheRulesAreThoseOfThePolicy(t *testing.T) {
	e := newEngine(t, Config{Sites: site("freeze.rego", readEverything)})
	i := 0
	for i < len(e.rules) && e.rules[i] != "freeze" {
		i++
	}
	for _, path := range [][]string{{"xml"}, {"domain", "disks"}, {"host", "domains"}, {"caller", "pid"}} {
		if !programOf(t, e).rules[i].reads().Has(path...) {
			t.Errorf("%v", path)
		}
	}
	library := newEngine(t, Config{Sites: site("data.json", `{"site": {"block_job": {}, "min_running": {"groups": [{"name": "r", "min": 2, "members": ["dns-*"]}]}, "calendar": {"freezes": []}}}`)})
	for _, path := range library.reads.Paths {
		known := false
		for _, r := range programOf(t, library).rules {
			known = known || r.reads().Has(path...)
		}
		if !known {
			t.Errorf("no rule reads %v", path)
		}
	}
}

// An object that is built whole is left out whole if a part of it is missing, also for a rule that
// reads another part.
func TestEveryObjectOfTheInputIsBuiltFieldByField(t *testing.T) {
	schema, err := library.InputSchema()
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for name, property := range schema.(map[string]any)["properties"].(map[string]any) {
		if property.(map[string]any)["properties"] != nil {
			want = append(want, name)
		}
	}
	slices.Sort(want)
	got := slices.Sorted(slices.Values(document.Containers))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// What is accepted as a document is what a domain could have given: built whole, it says the same
// again.
func FuzzDocument(f *testing.F) {
	e := newEngine(f, Config{List: []byte("*\n")})
	f.Add(written(f, e, ask(parseDomain(f, plainDomain))), "/input/domain/metadata")
	f.Add([]byte(`{"version": 1, "domain": {"name": "x", "uuid": "16e14a01-2b11-40de-a128-75e3f4a5fe12", "listed": ["x"]}}`), "")
	f.Add([]byte(`{"version": 1, "host": {"domains": [null]}}`), "/input/host/domains/0")
	f.Fuzz(func(t *testing.T, content []byte, pointer string) {
		var hidden []string
		if pointer != "" {
			hidden = []string{pointer}
		}
		d, err := ParseDocument(content, hidden)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n") {
				t.Fatalf("%q is not one line", err)
			}
			return
		}
		decision, err := e.DecideDocument(context.Background(), d)
		if err != nil && decision.Outcome != Fault {
			t.Fatalf("%v with %+v", err, decision)
		}
		if err == nil && len(d.lacksOf(t, e)) > 0 {
			t.Fatalf("decided without %v", d.lacksOf(t, e))
		}
		if !d.json.HasAll() {
			return
		}
		again, err := ast.JSON(d.value(document.Reads{All: true}.Tree(), d.input()))
		if err != nil {
			t.Fatal(err)
		}
		value, err := jsontree.ParseValue(content)
		if err != nil || !reflect.DeepEqual(value, again) {
			t.Fatalf("%v\n%s", err, cmp.Diff(value, again))
		}
	})
}

// lacksOf returns the missing inputs of all loaded rules together.
func (d *Document) lacksOf(t *testing.T, e *Engine) []string {
	t.Helper()
	reads := document.ReadsOf(programOf(t, e).compiler) // more is gathered than the rules that are always on read
	return d.json.Lacks(reads)
}
