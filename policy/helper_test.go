package policy

import (
	"context"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stopguard/stopguard/domainxml"
)

const plainDomain = `<domain type="kvm" id="7">
  <name>web-01</name>
  <uuid>16e14a01-2b11-40de-a128-75e3f4a5fe12</uuid>
  <memory unit="KiB">65536</memory>
  <vcpu>2</vcpu>
  <os><type arch="x86_64" machine="q35">hvm</type></os>
</domain>`

// site makes a site of pairs of name and content.
func site(pairs ...string) []Site {
	files := fstest.MapFS{}
	for i := 0; i < len(pairs); i += 2 {
		files[pairs[i]] = &fstest.MapFile{Data: []byte(pairs[i+1])}
	}
	return []Site{{FS: files}}
}

func parseDomain(t testing.TB, xml string) *domainxml.Domain {
	t.Helper()
	d, err := domainxml.Parse([]byte(xml))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func newEngine(t testing.TB, c Config) *Engine {
	t.Helper()
	e, err := New(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func programOf(t testing.TB, e *Engine) *program {
	t.Helper()
	p, err := e.program()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// ask is a stop request for the domain at noon of a day in 2026, on a host where nothing runs and
// with an unknown state.
func ask(d *domainxml.Domain) Input {
	return Input{
		Operation: OperationStop,
		Time:      time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC),
		Host:      Host{Name: "kvm-01", Domains: []HostDomain{}},
		Domain:    d,
		State:     State{Unknown: true},
	}
}

func decide(t testing.TB, e *Engine, in Input) Decision {
	t.Helper()
	d, err := e.Decide(context.Background(), in)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
