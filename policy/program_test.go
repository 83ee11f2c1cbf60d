package policy

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

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
	`some disk in input.domain.disks; disk.job != ""`,
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

// fresh is an engine as it was before its first decision, that evaluates every rule whatever it
// begins with.
func fresh(t testing.TB, e *Engine) *Engine {
	t.Helper()
	p := programOf(t, e)
	again := newProgram(p.compiler, p.store, e.rules)
	for _, r := range again.rules {
		r.conditions = conditions{nil}
	}
	plain := *e
	plain.program = func() (*program, error) { return again, nil }
	plain.onlyAlwaysOn = false
	return &plain
}

// sameAgain fails unless an engine decides as one that is new, and that leaves out no rule.
func sameAgain(t *testing.T, what string, e *Engine, in Input) Decision {
	t.Helper()
	want, wantErr := fresh(t, e).Decide(context.Background(), in)
	for range 2 {
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
			every := tt.every
			if testing.Short() { // each domain is decided six times
				every *= 3
			}
			vetoes := 0
			for i, file := range slices.Sorted(maps.Keys(domains)) {
				if i%every != 0 {
					continue
				}
				d := domains[file]
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
			if vetoes < 5 && !testing.Short() || vetoes == 0 {
				t.Errorf("%d vetoes show nothing", vetoes)
			}
		})
	}
}

// Whatever is in a document: an engine that stays, with what it remembers of all others, decides as
// one that is new.
func FuzzDecideAgain(f *testing.F) {
	for _, d := range []string{plainDomain, strings.Replace(plainDomain, "<memory", `<metadata>
    <protection xmlns="urn:stopguard:protection:1" reason="x" until="2026-12-24"/><Protection xmlns="urn:stopguard:2"/></metadata><memory`, 1)} {
		f.Add(d, int64(0), "")
	}
	for _, until := range []string{"2026-11-22", "2026-02-31", "9999-12-31", "2026-11-22T12:00:00Z", "soon", "2026-11-22T12:00:00+25:00"} {
		f.Add(fmt.Sprintf(`<domain><name>db-0%d</name><uuid>16e14a01-2b11-40de-a128-75e3f4a5fe12</uuid><metadata><protection xmlns="urn:stopguard:protection:1" until="%s" domain="16E14A012B1140DEA12875E3F4A5FE12"/></metadata></domain>`, len(until), until), int64(len(until))*86400*7, "backup")
	}
	// Few rules, for each costs the fuzzer time: those that can be left out, and one that fails.
	kinds := func(rule string) bool {
		return strings.Contains(rule, "web-01") && !strings.Contains(rule, "data.site") && !strings.Contains(rule, "with input")
	}
	e := newEngine(f, Config{Sites: guardedSite(kinds), List: []byte("web-*\ndb#1\n")})
	plain := fresh(f, e)
	f.Fuzz(func(t *testing.T, xml string, seconds int64, job string) {
		d, err := domainxml.Parse([]byte(xml))
		if err != nil {
			return
		}
		in := ask(d)
		in.Time = in.Time.Add(time.Duration(seconds%1e8) * time.Second)
		in.State.Job = job
		want, wantErr := plain.Decide(context.Background(), in)
		got, err := e.Decide(context.Background(), in)
		if diff := cmp.Diff(want, got); diff != "" || fmt.Sprint(err) != fmt.Sprint(wantErr) {
			t.Fatalf("%s: %v, %v (-all rules +those that are not left out):\n%s", xml, wantErr, err, diff)
		}
	})
}

func TestRulesAboutOtherDomainsAreNotEvaluated(t *testing.T) {
	left := []string{ // out of guardedRules, about a domain of another name and without devices
		`input.domain.name == "web-01"`, `"web-01" == input.domain.name`, `input.domain.name = "web-01"`, `input.domain.name in {"web-01", "pg-primary-01"}`,
		`startswith(input.domain.name, "pg-")`, `input.domain.memory_bytes == 134217728`, `input.domain.listed[0] == "web-*"`, `name := input.domain.name; name == "web-01"`,
		`some disk in input.domain.disks; disk.bus == "virtio"; disk.read_only == false`, `some disk in input.domain.disks; disk.bus == "virtio"; disk.target == "sda"`,
		`some i; disk := input.domain.disks[i]; disk.read_only == false; other := input.domain.interfaces[i]; other.model == "e1000e"`,
		`some element in input.domain.metadata; startswith(element.namespace, "http://openstack.org/"); element.name == "instance"`,
		`some element in input.domain.metadata; some child in element.children; child.name == "owner"`,
		`domain := input.domain; domain.name == "web-01"`,
		`x := input.domain.name; y := x; y == "web-01"`, `input.domain.name == "web-01"; time.parse_rfc3339_ns(input.domain.title) > 0`, `input.host.name == "a"`,
		`input.domain.id != 0`, `some disk in input.domain.disks; disk.job != ""`,
	}
	e := newEngine(t, Config{Sites: guardedSite(func(string) bool { return true })})
	d := parseDomain(t, strings.NewReplacer("web-01", "other", `id="7"`, "").Replace(plainDomain))
	value, err := inputValue(ask(d), nil, programOf(t, e).fields)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range programOf(t, e).rules {
		var n int
		if _, err := fmt.Sscanf(r.name, "rule_%d", &n); err != nil {
			continue
		}
		if want := !slices.Contains(left, guardedRules[n]); r.conditions.mayHold(value) != want {
			t.Errorf("evaluated: %v, want %v: %s", !want, want, guardedRules[n])
		}
	}
}

// A rule that has failed is asked alone from then on, and its notes are heard again where it does
// not fail.
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
	for _, r := range programOf(t, e).rules {
		if r.hasFailed.Load() {
			failed = append(failed, r.name)
		}
	}
	if diff := cmp.Diff([]string{"fails", "notes"}, failed); diff != "" {
		t.Error(diff)
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

// BenchmarkAFailingRule is a decision of many rules of which one fails each time, and one of as
// many of which none does.
func BenchmarkAFailingRule(b *testing.B) {
	for _, rules := range []struct{ Kind, body string }{
		{"each about one domain", `input.domain.name == "app-%d"`},
		{"each about any domain", `count(input.domain.disks) == %d`},
	} {
		for _, failing := range []int{0, 1} {
			b.Run(fmt.Sprintf("500 rules %s, %d fail", rules.Kind, failing), func(b *testing.B) {
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
