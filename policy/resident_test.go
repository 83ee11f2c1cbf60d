package policy

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stopguard/stopguard/domainxml"
)

// allSettings configure every rule of the library.
const allSettings = `{"site": {
  "calendar": {
    "time_zone": "Europe/Berlin",
    "freezes": [{"name": "year end", "from": "2026-12-18T18:00", "until": "2027-01-03", "domains": ["pg-*", "[a-m]*"]}],
    "windows": [{"days": ["tue", "thu"], "start": "22:00", "end": "04:00", "domains": ["*-0?"]}]
  },
  "min_running": {"groups": [
    {"name": "resolvers", "min": 2, "members": ["dns-*", "web-*"]},
    {"name": "nova", "min": 1, "metadata": {"namespace": "http://openstack.org/xmlns/libvirt/nova/1.1", "name": "instance"}}
  ]},
  "block_job": {}
}}`

// Rules that begin in all the ways that a guard reads, and in some that it must not.
var guardedRules = []string{
	`input.domain.name == "web-01"`,
	`"web-01" == input.domain.name`,
	`input.domain.name = "web-01"`,
	`input.domain.name != "web-01"`,
	`input.domain.name in {"web-01", "pg-primary-01"}`,
	`input.domain.name in ["web-01", "pg-primary-01"]`,
	`startswith(input.domain.name, "pg-")`,
	`endswith(input.domain.name, "-01")`,
	`not startswith(input.domain.name, "pg-")`,
	`input.domain.memory_bytes == 134217728`,
	`input.domain.id != 0`,
	`input.domain.listed[0] == "web-*"`,
	`input.domain.listed[1]`,
	`some disk in input.domain.disks; disk.bus == "virtio"; disk.read_only == false`,
	`some disk in input.domain.disks; disk.bus == "virtio"; disk.target == "sda"`,
	`some i; input.domain.disks[i].bus == "scsi"`,
	`some i; disk := input.domain.disks[i]; disk.read_only == false; other := input.domain.interfaces[i]; other.model == "e1000e"`,
	`some element in input.domain.metadata; startswith(element.namespace, "http://openstack.org/"); element.name == "instance"`,
	`some element in input.domain.metadata; some child in element.children; child.name == "owner"`,
	`every disk in input.domain.disks { disk.bus == "virtio" }`,
	`some key, value in input.domain; key == "name"; value == "web-01"`,
	`name := input.domain.name; name == "web-01"`,
	`domain := input.domain; domain.name == "web-01"`,
	`x := input.domain.name; y := x; y == "web-01"`,
	`input.domain.name == input.domain.title`,
	`input.domain.state == ""; input.caller.uid == -1`,
	`input.operation == "stop"; count(input.domain.disks) > 1`,
	`time.parse_rfc3339_ns(input.domain.title) > 0; input.domain.name == "web-01"`,
	`input.domain.name == "web-01"; time.parse_rfc3339_ns(input.domain.title) > 0`,
	`input.domain.name == "name" with input.domain.name as "name"`,
	`data.site.calendar.time_zone == "Europe/Berlin"; input.domain.name == "web-01"`,
	`input.host.name == "a"`,
	`input.xml.name == "domain"`,
}

func guardedSite(only func(rule string) bool) []Site {
	files := fstest.MapFS{"data.json": {Data: []byte(allSettings)}}
	for i, body := range guardedRules {
		if only(body) {
			name := fmt.Sprintf("rule_%02d", i)
			text := fmt.Sprintf("package stopguard.rules.%s\n\nveto contains sprintf(\"%s of %%s\", [input.domain.name]) if {\n\t%s\n}\n\nnote contains \"noted\" if {\n\tinput.operation == \"stop\"\n\t%s\n}\n",
				name, name, strings.ReplaceAll(body, "; ", "\n\t"), strings.ReplaceAll(body, "; ", "\n\t"))
			files[name+".rego"] = &fstest.MapFile{Data: []byte(text)}
		}
	}
	return []Site{{FS: files}}
}

// firstDecision is what the engine would decide if it had decided nothing before.
func firstDecision(e *Engine, in Input) (Decision, error) {
	fresh := *e
	fresh.resident = &resident{}
	return fresh.Decide(context.Background(), in)
}

func sameAgain(t *testing.T, what string, e *Engine, in Input) Decision {
	t.Helper()
	want, wantErr := firstDecision(e, in)
	for range 3 {
		got, err := e.Decide(context.Background(), in)
		if diff := cmp.Diff(fmt.Sprint(wantErr), fmt.Sprint(err)); diff != "" {
			t.Fatalf("%s: errors (-first +again):\n%s", what, diff)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%s: (-first +again):\n%s", what, diff)
		}
	}
	return want
}

func everyDomain(t testing.TB) map[string]*domainxml.Domain {
	t.Helper()
	domains := map[string]*domainxml.Domain{}
	for _, pattern := range []string{"../domainxml/testdata/corpus/*.xml", "../testdata/captures/*/*/stdin.xml"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) < 10 {
			t.Fatalf("%s: %d files, %v", pattern, len(files), err)
		}
		for _, file := range files {
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			domains[file] = parseDomain(t, string(content))
		}
	}
	return domains
}

func TestAnEngineDecidesAgainAsItDidFirst(t *testing.T) {
	domains := everyDomain(t)
	var hosts []HostDomain
	for _, d := range domains {
		hosts = append(hosts, HostDomain{Name: d.Name, UUID: d.UUID, State: "running", Metadata: d.Metadata})
	}
	fails := func(rule string) bool { return strings.Contains(rule, "time.parse") }
	tests := []struct {
		name, why string
		config    Config
		every     int // of how many domains one is asked about
	}{
		{"the rules that are always on", "there the engine has parts", Config{List: []byte("web-*\npg-*\n")}, 1},
		{"all rules of the library", "", Config{Sites: site("data.json", allSettings), List: []byte("web-*\nweb-01\n")}, 1},
		{"a site's rules", "whatever they begin with", Config{Sites: guardedSite(func(rule string) bool { return !fails(rule) })}, 2},
		{"rules that fail", "then each is asked on its own, and notes are left out", Config{Sites: guardedSite(func(string) bool { return true })}, 12},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := newEngine(t, tt.config)
			vetoes, n := 0, 0
			for file, d := range domains {
				if n++; n%tt.every != 0 {
					continue
				}
				in := ask(d)
				in.Host = Host{Name: "a", Domains: hosts}.Shared()
				in.State.DiskJobs = map[string]string{"vda": "copy"}
				if sameAgain(t, file, e, in).Outcome == Veto {
					vetoes++
				}
				in.Time = in.Time.AddDate(0, 1, 2)
				in.State = State{State: "paused", Reason: "ioerror", Job: "backup"}
				sameAgain(t, file, e, in)
			}
			if vetoes < 5 {
				t.Errorf("%d vetoes show nothing", vetoes)
			}
		})
	}
}

// Whatever is in a document: an engine that stays, with what it remembers of all others, decides as one that is new.
func FuzzDecideAgain(f *testing.F) {
	for _, d := range []string{plainDomain, strings.Replace(plainDomain, "<memory", `<metadata>
    <protection xmlns="urn:stopguard:protection:1" reason="x" until="2026-12-24"/><Protection xmlns="urn:stopguard:2"/></metadata><memory`, 1)} {
		f.Add(d, int64(0), "")
	}
	for _, until := range []string{"2026-11-22", "2026-02-31", "9999-12-31", "2026-11-22T12:00:00Z", "soon", "2026-11-22T12:00:00+25:00"} {
		f.Add(fmt.Sprintf(`<domain><name>db-0%d</name><uuid>16e14a01-2b11-40de-a128-75e3f4a5fe12</uuid><metadata><protection xmlns="urn:stopguard:protection:1" until="%s" domain="16E14A012B1140DEA12875E3F4A5FE12"/></metadata></domain>`, len(until), until), int64(len(until))*86400*7, "backup")
	}
	e := newEngine(f, Config{Sites: guardedSite(func(rule string) bool { return !strings.Contains(rule, "time.parse") }), List: []byte("web-*\ndb#1\n")})
	failing := newEngine(f, Config{Sites: guardedSite(func(rule string) bool { return strings.Contains(rule, "01") }), List: []byte("web-*\n")})
	f.Fuzz(func(t *testing.T, xml string, seconds int64, job string) {
		d, err := domainxml.Parse([]byte(xml))
		if err != nil {
			return
		}
		in := ask(d)
		in.Time = in.Time.Add(time.Duration(seconds%1e8) * time.Second)
		in.State.Job = job
		sameAgain(t, xml, e, in)
		sameAgain(t, xml, failing, in)
	})
}

func TestRulesAboutOtherDomainsAreNotAsked(t *testing.T) {
	asked := []string{ // of guardedRules, about a domain that is neither named, nor has what they ask for
		"!=", "not startswith", "every", "some key", "y :=", "input.title", "input.domain.title", "count(", "time.parse_rfc3339_ns(input.domain.title) > 0; input", "with input", "data.site", "input.caller.uid", "input.xml", "some child", "listed[1]", "domain := input",
	}
	e := newEngine(t, Config{Sites: guardedSite(func(string) bool { return true })})
	d := parseDomain(t, strings.NewReplacer("web-01", "other", `id="7"`, "").Replace(plainDomain))
	if err := e.prepare(context.Background()); err != nil {
		t.Fatal(err)
	}
	document, err := document(ask(d), nil, e.reads)
	if err != nil {
		t.Fatal(err)
	}
	values := e.resident.places.values(document)
	m := e.resident.memo()
	m.begin(subjectOf(document))
	for i, rule := range e.rules {
		var n int
		if _, err := fmt.Sscanf(rule, "rule_%d", &n); err != nil {
			continue
		}
		may := false
		for _, part := range asked {
			may = may || strings.Contains(guardedRules[n], part)
		}
		if e.resident.rules[i].guard.opens(values, m) && !may {
			t.Errorf("asked: %s", guardedRules[n])
		}
	}
}

func TestAMemoIsBoundedAndKeepsNoDocument(t *testing.T) {
	e := newEngine(t, Config{Sites: site("data.json", allSettings)})
	text := strings.Repeat(" ", 1<<20) + "web-"
	for n := range 3000 {
		d := parseDomain(t, strings.Replace(plainDomain, "web-01", fmt.Sprintf("web-%d", n), 1))
		if _, err := e.Decide(context.Background(), ask(d)); err != nil {
			t.Fatal(err)
		}
	}
	m := e.resident.memo()
	if n := len(m.young) + len(m.old); n > 2*maxYoung+64 || n < maxYoung {
		t.Errorf("%d are remembered", n)
	}
	part := text[len(text)-4:]
	kept, ok := m.pure.own(ast.StringTerm(part))
	if !ok || unsafe.StringData(string(kept.Value.(ast.String))) == unsafe.StringData(part) {
		t.Error("a part of a document is kept, and with it the document")
	}
	if _, ok := m.pure.own(ast.StringTerm(text)); ok {
		t.Error("a long text is kept")
	}
}

// A rule that has failed is asked alone from then on, and its notes are heard again where it does not fail.
func TestARuleThatHasFailedIsAskedAlone(t *testing.T) {
	const at = "time.parse_rfc3339_ns(input.domain.title) > 0"
	e := newEngine(t, Config{List: []byte("web-01\n"), Sites: site(
		"fails.rego", "package stopguard.rules.fails\n\nveto contains \"late\" if "+at+"\n\nnote contains \"it is\" if "+at,
		"notes.rego", "package stopguard.rules.notes\n\nveto contains \"well\" if input.domain.name != \"x\"\n\nnote contains \"it is\" if "+at,
		"sound.rego", "package stopguard.rules.sound\n\nveto contains \"sound\" if count(input.domain.title) >= 0\n\nnote contains \"heard\" if input.operation == \"stop\"",
	)})
	for _, tt := range []struct {
		title          string
		reasons, notes int
	}{{"2026-01-01T00:00:00Z", 4, 3}, {"soon", 4, 0}, {"2026-01-01T00:00:00Z", 4, 3}, {"later", 4, 0}} {
		in := ask(parseDomain(t, strings.Replace(plainDomain, "<memory", "<title>"+tt.title+"</title><memory", 1)))
		if d := sameAgain(t, tt.title, e, in); len(d.Reasons) != tt.reasons || len(d.Notes) != tt.notes {
			t.Errorf("%q: %+v", tt.title, d)
		}
	}
	var failed []string
	e.resident.failing.Range(func(i, _ any) bool { failed = append(failed, e.rules[i.(int)]); return true })
	slices.Sort(failed)
	if diff := cmp.Diff([]string{"fails", "notes"}, failed); diff != "" {
		t.Error(diff)
	}
}

// A rule of a site may have two values for one call, which is an error. What was found before it must not be taken for true.
func TestWhatAFailedEvaluationFoundIsForgotten(t *testing.T) {
	e := newEngine(t, Config{Sites: site("data.json", allSettings, "freeze.rego", head+`veto contains "x" if time.parse_rfc3339_ns(input.domain.title) > 0`)})
	d := parseDomain(t, plainDomain)
	for range 2 { // the second has one that fails; from the third on, the rule is not among those that are asked together
		got := decide(t, e, ask(d))
		if len(got.Reasons) < 2 || !strings.Contains(got.Reasons[1].Message, "rule failed") {
			t.Fatalf("%+v", got)
		}
	}
	if m := e.resident.memo(); len(m.young) > 0 {
		t.Errorf("%d are remembered", len(m.young))
	}
}

func TestASharedHostIsReadOnce(t *testing.T) {
	h := Host{Domains: []HostDomain{{Name: "a", UUID: "b", State: "running"}}}.Shared()
	var terms [8]*ast.Term
	var wg sync.WaitGroup
	for i := range terms {
		wg.Go(func() { terms[i] = h.domainsTerm() })
	}
	wg.Wait()
	for _, term := range terms {
		if term != terms[0] {
			t.Fatal("it was made again")
		}
	}
	other := h
	other.Domains = []HostDomain{{Name: "c"}}
	if other.domainsTerm().Equal(terms[0]) {
		t.Error("other domains are taken for those that were shared")
	}
	if !other.domainsTerm().Equal(Host{Domains: other.Domains}.domainsTerm()) || !terms[0].Equal(Host{Domains: h.Domains}.domainsTerm()) {
		t.Error("sharing changes what rules see")
	}
}

// Where a site has no rules, metadata elements have no children in the document that rules see.
func TestTheLibraryReadsNoChildrenOfMetadata(t *testing.T) {
	e := newEngine(t, Config{Sites: site("data.json", allSettings), List: []byte("web-*\n")})
	fits := "data.stopguard.rules.min_running._fits"
	for _, module := range e.compiler.Modules {
		ast.WalkTerms(module, func(term *ast.Term) bool {
			if text := strings.Trim(term.String(), `"`); text == "children" || text == "walk" || strings.HasPrefix(text, "json.") {
				t.Errorf("%s: %s may read children", term.Location, text)
			}
			return false
		})
		for _, rule := range module.Rules {
			elements := map[string]bool{"element": rule.Ref().String() == fits}
			ast.WalkExprs(rule, func(expr *ast.Expr) bool {
				for i, operand := range expr.Operands() {
					if ref := operand.String(); expr.IsEquality() && strings.HasPrefix(ref, "input.domain.metadata[") && strings.HasSuffix(ref, "]") {
						elements[expr.Operand(1-i).String()] = true
					} else if operator := expr.Operator(); elements[ref] && !expr.IsEquality() && operator.String() != fits {
						t.Errorf("%s: %s is given a whole element", expr.Location, operator)
					}
				}
				return false
			})
			if rule.Head.Key != nil && elements[rule.Head.Key.String()] || rule.Head.Value != nil && elements[rule.Head.Value.String()] {
				t.Errorf("%s: its value is an element", rule.Location)
			}
		}
	}
	shallow, whole := *e, *e
	whole.places = func() *place { return e.reads.places() }
	whole.resident = &resident{}
	if !shallow.places().shallow || whole.places().shallow {
		t.Fatal("there is nothing to compare")
	}
	for file, d := range everyDomain(t) {
		in := ask(d)
		in.Host = Host{Name: "a", Domains: []HostDomain{{Name: "a", UUID: "b", State: "running", Metadata: d.Metadata}}}
		for _, operation := range []string{"stop", "tamper"} {
			in.Operation = operation
			want, got := decide(t, &whole, in), decide(t, &shallow, in)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: (-with children +without):\n%s", file, diff)
			}
		}
	}
}

// What an engine finds out once holds for all who ask later, and must not depend on how long the first could wait.
func TestAnEngineIsPreparedAlsoIfWhoAskedHasLeft(t *testing.T) {
	var groups []string // so many that it takes a while to see which namespaces they name
	for i := range 3000 {
		groups = append(groups, fmt.Sprintf(`{"name": "g%d", "min": 1, "metadata": {"namespace": "urn:%d", "name": "instance"}}`, i, i))
	}
	settings := `{"site": {"min_running": {"groups": [` + strings.Join(groups, ", ") + `]}}}`
	guards := func(ctx context.Context) (all [][]int) {
		e := newEngine(t, Config{Sites: site("data.json", settings)})
		if err := e.prepare(ctx); err != nil {
			t.Fatal(err)
		}
		for _, rule := range e.resident.rules {
			for _, clause := range rule.guard.clauses {
				var checks []int // of each condition
				for _, condition := range clause {
					checks = append(checks, len(condition.check))
				}
				all = append(all, checks)
			}
		}
		return all
	}
	left, leave := context.WithCancel(context.Background())
	leave()
	if diff := cmp.Diff(guards(context.Background()), guards(left)); diff != "" {
		t.Errorf("guards (-asker stays +asker leaves):\n%s", diff)
	}
}

// BenchmarkAFailingRule is a decision of many rules of which one fails each time, and one of as many of which none does.
func BenchmarkAFailingRule(b *testing.B) {
	for _, rules := range []struct{ kind, body string }{
		{"each about one domain", `input.domain.name == "app-%d"`},
		{"each about any domain", `count(input.domain.disks) == %d`},
	} {
		for _, failing := range []int{0, 1} {
			b.Run(fmt.Sprintf("500 rules %s, %d fail", rules.kind, failing), func(b *testing.B) {
				files := fstest.MapFS{}
				for i := range 500 {
					body := fmt.Sprintf(rules.body, i+1000)
					if i >= 500-failing {
						body = "time.parse_rfc3339_ns(input.domain.title) > 0"
					}
					files[fmt.Sprintf("r%d.rego", i)] = &fstest.MapFile{Data: fmt.Appendf(nil, "package stopguard.rules.r%d\n\nveto contains \"x\" if {\n\t%s\n}\n", i, body)}
				}
				e := newEngine(b, Config{Sites: []Site{{FS: files}}})
				in := ask(parseDomain(b, plainDomain))
				for range 2 {
					if d := decide(b, e, in); len(d.Reasons) != failing {
						b.Fatal(d)
					}
				}
				for b.Loop() {
					decide(b, e, in)
				}
			})
		}
	}
}
