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

// noon is when everything is asked.
var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// A warmDomain is a domain's XML, of which nothing is kept from one decision to the next.
type warmDomain struct {
	size string
	xml  []byte
}

// warmDomains are the capture of a live domain, and one a third as long: another live domain with the metadata of the
// first.
func warmDomains() ([]warmDomain, error) {
	long, err := os.ReadFile("testdata/captures/pg-primary-01/stop/stdin.xml")
	if err != nil {
		return nil, fmt.Errorf("%w; run it in the repository's root folder", err)
	}
	short, err := os.ReadFile("testdata/captures/web-01/stop/stdin.xml")
	if err != nil {
		return nil, err
	}
	metadata := regexp.MustCompile(`(?s)  <metadata>.*</metadata>\n`).Find(long)
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
	return engine.Decide(context.Background(), policy.Input{Operation: policy.OperationStop, Time: noon, Domain: domain})
}

// tokenPass is the least that reading XML strictly costs with encoding/xml: its tokens, and no second attribute of one name.
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

// timed makes a run of f, repeated so that what the clock costs does not count.
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

// cpuTime is what this process has used, of all its threads, so that collecting garbage counts.
func cpuTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

// allocations counts what f allocates, in a number of runs.
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
	naive, err := newNaive(ctx, warmConfig())
	if err != nil {
		return nil, err
	}
	var rows []row
	for _, d := range domains {
		ours := func() error {
			decision, err := askEngine(engine, d.xml)
			if err == nil && len(decision.Reasons) != 1 {
				err = fmt.Errorf("decided %+v", decision)
			}
			return err
		}
		theirs := func() error {
			reasons, err := naive.ask(ctx, d.xml)
			if err == nil && reasons != 1 {
				err = fmt.Errorf("%d reasons", reasons)
			}
			return err
		}
		against := func(ours, theirs func() error) func(int) (cost, cost, error) {
			return func(n int) (cost, cost, error) { return interleaved(n, timed(ours), timed(theirs)) }
		}
		rows = append(rows,
			row{name: "warm " + d.size + " / naive", atMost: 1.0 / 8, measure: against(ours, theirs)},
			row{name: "warm " + d.size + " / token pass", atMost: 1.5, measure: against(ours, func() error { return tokenPass(d.xml) })},
			row{name: "parse " + d.size + " / token pass", atMost: 1, measure: against(func() error { _, err := domainxml.Parse(d.xml); return err }, func() error { return tokenPass(d.xml) })},
			row{name: "warm allocations " + d.size + " / naive", atMost: 1.0 / 3, measure: func(int) (a, b cost, err error) {
				if a.bytes, err = allocations(ours); err != nil {
					return
				}
				b.bytes, err = allocations(theirs)
				return
			}},
		)
	}
	return rows, nil
}
