package main

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"runtime"
	"sync"
	"testing/fstest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/policy"
)

// warmSettings configure every rule of the library.
const warmSettings = `{"site": {
  "calendar": {
    "time_zone": "Europe/Berlin",
    "freezes": [{"name": "year-end closing", "from": "2026-12-18T18:00", "until": "2027-01-03", "domains": ["pg-*", "billing-[0-9]"]}],
    "windows": [{"days": ["tue", "thu"], "start": "22:00", "end": "04:00", "domains": ["test-*"]}]
  },
  "min_running": {"groups": [
    {"name": "resolvers", "min": 2, "members": ["dns-*"]},
    {"name": "billing", "min": 1, "metadata": {"namespace": "urn:example:service:1", "name": "service", "attributes": {"role": "billing"}}}
  ]},
  "block_job": {}
}}`

const warmList = "# domains that nobody stops\nldap-01\npg-replica-*\nd19e7151-4c02-4aa7-a443-59213be70abb\n"

// noon is the time of every decision.
var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// A warmDomain is a domain's XML that differs in each decision, so that caches do not help.
type warmDomain struct {
	size string
	xml  []byte
}

var metadataElement = regexp.MustCompile(`(?s)  <metadata>.*</metadata>\n`)

// warmDomains are the capture of a live domain, and one a third as long: another live domain with
// the metadata of the first.
func warmDomains() ([]warmDomain, error) {
	long, err := os.ReadFile("testdata/captures/pg-primary-01/stop/stdin.xml")
	if err != nil {
		return nil, fmt.Errorf("%w; run it in the repository's root folder", err)
	}
	short, err := os.ReadFile("testdata/captures/web-01/stop/stdin.xml")
	if err != nil {
		return nil, err
	}
	metadata := metadataElement.Find(long)
	if metadata == nil {
		return nil, errors.New("the capture has no metadata")
	}
	short = bytes.Replace(short, []byte("  <memory "), append(metadata, "  <memory "...), 1)
	return []warmDomain{{"3 KB", short}, {"9 KB", long}}, nil
}

func warmConfig() policy.Config {
	return policy.Config{
		Sites: []policy.Site{{FS: fstest.MapFS{"data.json": {Data: []byte(warmSettings)}}}},
		List:  []byte(warmList),
	}
}

func askEngine(engine *policy.Engine, doc []byte) (policy.Decision, error) {
	domain, err := domainxml.Parse(doc)
	if err != nil {
		return policy.Decision{}, err
	}
	return engine.Decide(context.Background(), policy.Input{
		Operation: policy.OperationStop, Time: noon, Domain: domain,
		Host: policy.Host{Domains: []policy.HostDomain{}}, State: policy.State{Unknown: true},
	})
}

// tokenPass is the least that reading XML strictly costs with encoding/xml: its tokens, and no
// second attribute of one name.
func tokenPass(doc []byte) error {
	for d := xml.NewDecoder(bytes.NewReader(doc)); ; {
		token, err := d.Token()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if start, ok := token.(xml.StartElement); ok {
			for i, a := range start.Attr {
				for _, b := range start.Attr[:i] {
					if a.Name == b.Name {
						return errors.New("a second attribute")
					}
				}
			}
		}
	}
}

// timed returns a run of f, repeated so that the cost of reading the clock does not count.
func timed(f func() error) func() (cost, error) {
	const times = 20
	return func() (cost, error) {
		start, cpu := time.Now(), cpuTime()
		for range times {
			if err := f(); err != nil {
				return cost{}, err
			}
		}
		return cost{wall: time.Since(start) / times, cpu: (cpuTime() - cpu) / times}, nil
	}
}

// cpuTime returns the processor time of all threads of this process, including garbage collection.
func cpuTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

// allocations returns the number of allocations of f, averaged over several runs.
func allocations(f func() error) (int64, error) {
	const times = 100
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range times {
		if err := f(); err != nil {
			return 0, err
		}
	}
	runtime.ReadMemStats(&after)
	return int64(after.Mallocs-before.Mallocs) / times, nil
}

// different returns a document under many names, so that nothing that is remembered of one domain
// helps with the next.
func different(doc []byte) func() []byte {
	name := regexp.MustCompile(`<name>([^<]*)</name>`).FindSubmatch(doc)[1]
	uuid := regexp.MustCompile(`<uuid>([^<]*)</uuid>`).FindSubmatch(doc)[1]
	n := 0
	return func() []byte {
		n++
		other := bytes.Replace(doc, name, fmt.Appendf(nil, "%s-%05d", name, n%20000), 1)
		return bytes.Replace(other, uuid, fmt.Appendf(nil, "%08x%s", n%20000, uuid[8:]), 1)
	}
}

func against(ours, theirs func() error) func(int) (cost, cost, error) {
	return func(n int) (cost, cost, error) { return interleaved(n, timed(ours), timed(theirs)) }
}

func warmRows() ([]row, error) {
	ctx := context.Background()
	domains, err := warmDomains()
	if err != nil {
		return nil, err
	}
	engine, err := policy.New(ctx, warmConfig())
	if err != nil {
		return nil, err
	}
	naive, err := newNaive(ctx)
	if err != nil {
		return nil, err
	}
	var rows []row
	for _, d := range domains {
		ours := decider(engine, 1, func() []byte { return d.xml })
		unmarked := metadataElement.ReplaceAll(d.xml, nil)
		theirs := func() error {
			reasons, err := naive.ask(ctx, d.xml)
			if err == nil && reasons != 1 {
				err = fmt.Errorf("%d reasons", reasons)
			}
			return err
		}
		pass := func() error { return tokenPass(d.xml) }
		rows = append(rows,
			row{name: "warm " + d.size + ", vetoed by a mark / naive", atMost: 0.1, measure: against(ours, theirs)},
			row{name: "warm " + d.size + ", allowed / naive", atMost: 0.1, measure: against(
				decider(engine, 0, func() []byte { return unmarked }),
				func() error { _, err := naive.ask(ctx, unmarked); return err })},
			row{name: "warm " + d.size + " / token pass", atMost: 1.5, measure: against(ours, pass)},
			row{name: "warm " + d.size + ", never the same domain / token pass", atMost: 2, measure: against(decider(engine, 1, different(d.xml)), pass)},
			row{name: "warm parse " + d.size + " / token pass", atMost: 0.5, measure: against(func() error { _, err := domainxml.Parse(d.xml); return err }, pass)},
			row{name: "warm allocations " + d.size + " / naive", atMost: 1.0 / 3, measure: func(int) (a, b cost, err error) {
				if a.count, err = allocations(ours); err == nil {
					b.count, err = allocations(theirs)
				}
				return a, b, err
			}},
		)
	}
	short := domains[0].xml
	few, err := listed(10)
	if err != nil {
		return nil, err
	}
	many, err := listed(100_000)
	if err != nil {
		return nil, err
	}
	rows = append(rows, row{name: "warm 100,000 protected names / 10", atMost: 1.1, measure: against(
		decider(many, 1, func() []byte { return short }), decider(few, 1, func() []byte { return short }))})
	for _, kind := range []struct {
		name, rule string
		atMost     float64
	}{
		{"compare the name", `input.domain.name == "vm-%d"`, 3},
		{"compare the name's start", `startswith(input.domain.name, "vm-%d-")`, 3},
		{"walk metadata", "some element in input.domain.metadata\n\telement.namespace == \"urn:site:%d\"\n\telement.attributes.owner != \"\"", 0},
		{"walk all of metadata", "walk(input.domain.metadata, [_, element])\n\telement.namespace == \"urn:site:%d\"", 0},
	} {
		five, err := siteEngine(5, kind.rule)
		if err != nil {
			return nil, err
		}
		fiveHundred, err := siteEngine(500, kind.rule)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row{name: "warm 500 rules that " + kind.name + " / 5", atMost: kind.atMost, measure: against(
			decider(fiveHundred, 1, func() []byte { return short }), decider(five, 1, func() []byte { return short }))})
	}
	parsed, err := domainxml.Parse(short)
	if err != nil {
		return nil, err
	}
	plain, err := policy.New(ctx, policy.Config{List: []byte(warmList)})
	if err != nil {
		return nil, err
	}
	host := thousand(parsed)
	rows = append(rows, row{name: "warm, min_running with 1,000 domains / the default policy", atMost: 2, measure: against(
		about(engine, parsed, host.Shared()), about(plain, parsed, policy.Host{Domains: []policy.HostDomain{}}))})
	closed, err := closedWindows()
	if err != nil {
		return nil, err
	}
	rows = append(rows, row{name: "warm, outside every maintenance window, of 0.3 ms", atMost: 1, measure: budgeted(300*time.Microsecond,
		about(closed, parsed, policy.Host{Domains: []policy.HostDomain{}}))})
	rows = append(rows, row{name: "warm, 1,000 domains, shared / not", measure: against(about(engine, parsed, host.Shared()), about(engine, parsed, host))})
	rows = append(rows, row{name: "warm, two at once / one", atMost: 0.6, measure: func(n int) (cost, cost, error) {
		return interleaved(n, parallel(engine, short, 2), parallel(engine, short, 1))
	}})
	return rows, nil
}

// decider returns a function that decides about the document and fails on another number of
// reasons.
func decider(engine *policy.Engine, reasons int, document func() []byte) func() error {
	return func() error {
		decision, err := askEngine(engine, document())
		if err == nil && len(decision.Reasons) != reasons {
			err = fmt.Errorf("decided %+v", decision)
		}
		return err
	}
}

// thousand makes a host of as many domains, with the metadata of one.
func thousand(d *domainxml.Domain) policy.Host {
	var h policy.Host
	for i := range 1000 {
		h.Domains = append(h.Domains, policy.HostDomain{Name: fmt.Sprintf("vm-%d", i), UUID: fmt.Sprintf("%08x%s", i, d.UUID[8:]), State: "running", Metadata: d.Metadata})
	}
	return h
}

// closedWindows returns an engine with maintenance windows, none of which is open at noon.
func closedWindows() (*policy.Engine, error) {
	return policy.New(context.Background(), policy.Config{Sites: []policy.Site{{FS: fstest.MapFS{"data.json": {Data: []byte(`{"site": {"calendar": {
  "time_zone": "Europe/Berlin",
  "windows": [
    {"days": ["tue", "thu"], "start": "22:00", "end": "04:00"},
    {"days": ["sat"], "start": "02:00", "end": "06:00", "time_zone": "America/New_York"}
  ]
}}}`)}}}}})
}

// budgeted compares the cost of f with a budget.
func budgeted(budget time.Duration, f func() error) func(int) (cost, cost, error) {
	return func(n int) (cost, cost, error) {
		return interleaved(n, timed(f), func() (cost, error) { return cost{wall: budget, cpu: budget}, nil })
	}
}

// about decides about a domain that is read already, on a host.
func about(engine *policy.Engine, d *domainxml.Domain, h policy.Host) func() error {
	return func() error {
		_, err := engine.Decide(context.Background(), policy.Input{
			Operation: policy.OperationStop, Time: noon, Host: h, Domain: d, State: policy.State{Unknown: true},
		})
		return err
	}
}

// listed makes an engine with so many protected names.
func listed(n int) (*policy.Engine, error) {
	c := warmConfig()
	var list bytes.Buffer
	for i := range n {
		fmt.Fprintf(&list, "db-%06d.example.org\n", i)
	}
	c.List = list.Bytes()
	return policy.New(context.Background(), c)
}

// siteEngine returns an engine with n site rules besides the library.
func siteEngine(n int, body string) (*policy.Engine, error) {
	files := fstest.MapFS{}
	for i := range n {
		files[fmt.Sprintf("rule_%d.rego", i)] = &fstest.MapFile{Data: fmt.Appendf(nil,
			"package stopguard.rules.rule_%d\n\nveto contains \"no\" if {\n\tinput.operation == \"stop\"\n\t"+body+"\n}\n", i, i)}
	}
	c := warmConfig()
	c.Sites = append(c.Sites, policy.Site{FS: files, Name: "rules"})
	return policy.New(context.Background(), c)
}

// parallel returns a run of simultaneous decisions; the cost is that of one.
func parallel(engine *policy.Engine, doc []byte, workers int) func() (cost, error) {
	const times = 200
	return func() (cost, error) {
		var group sync.WaitGroup
		errs := make([]error, workers)
		start := time.Now()
		for w := range workers {
			group.Go(func() {
				for range times / workers {
					if _, err := askEngine(engine, doc); err != nil {
						errs[w] = err
					}
				}
			})
		}
		group.Wait()
		return cost{wall: time.Since(start) / times}, errors.Join(errs...)
	}
}
