// Package hostgen generates hosts for tests: settings, rules, a protected list, domains with marks,
// tickets, approvals and holds, all at generated times. The same seed generates the same host.
package hostgen

import (
	"encoding/xml"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// A Host has everything that decisions on a host depend on.
type Host struct {
	Settings []Setting // each a member of data.site
	Rules    []Rule    // of the site
	List     []string  // lines of the protected list; nil if it is missing
	Domains  []Domain
	Tickets  []Ticket
	Holds    []Hold

	IsShuttingDown bool
}

// A Setting is a member of data.site, with its value in JSON.
type Setting struct{ Name, Value string }

// A Rule is a file of the site's policy.
type Rule struct{ File, Text string }

// A Domain is a domain and the question about it.
type Domain struct {
	Name, UUID string
	Metadata   []string // elements in <metadata>
	Operation  string   // of the question
	At         time.Time
	AtHoldEnd  bool          // At is the end of the domain's first hold that ends
	Shift      time.Duration // added to At
}

// A Ticket is a ticket, or the request for one that was not approved in time.
type Ticket struct {
	Domain, Pattern string // a UUID, or a pattern
	Operation       string
	Granted         time.Time
	For             time.Duration
	Approval        *Approval // nil if a single person granted it
	IsCopied        bool      // another ticket has the same content
	IsEdited        bool      // it was changed by hand
}

// An Approval is the approval of a ticket by people.
type Approval struct {
	Needed     int // when it was requested
	Approvers  int
	IsLate     bool // the approvals came too late
	BreakGlass bool
}

// A Hold is a hold of a process.
type Hold struct {
	Domain     string // a UUID
	Operations []string
	AtMost     time.Duration // 0 means without end
	State      string        // Live, Dead or Garbled
}

// The states of a hold.
const (
	Live    = "live"
	Dead    = "dead"    // its holder was killed
	Garbled = "garbled" // it cannot be read
)

// XML returns the XML of the domain.
func (d Domain) XML() string {
	return fmt.Sprintf("<domain type='kvm' id='7'><name>%s</name><uuid>%s</uuid><metadata>%s</metadata><memory unit='KiB'>1024</memory></domain>\n",
		escaped(d.Name), d.UUID, strings.Join(d.Metadata, ""))
}

func escaped(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a Builder takes all
	return b.String()
}

// Near is the smallest distance of a generated time from now, unless the question is about that
// very time.
const Near = 6 * time.Hour

// A generator generates the parts of a host.
type generator struct {
	*rand.Rand
	now   time.Time
	times []time.Time // of the domain that is being generated
}

// Domains returns domains with generated names and UUIDs.
func Domains(r *rand.Rand, n int) []Domain {
	g := &generator{Rand: r}
	var domains []Domain
	for i := range n {
		domains = append(domains, Domain{Name: fmt.Sprintf("%s-%02d", one(g, stems), i), UUID: g.uuid()})
	}
	return domains
}

// Generate returns a host at a time with domains. The caller gives their names and UUIDs, and may
// give their operations.
func Generate(r *rand.Rand, now time.Time, domains []Domain) Host {
	g := &generator{Rand: r, now: now.UTC().Truncate(time.Second)}
	h := Host{Settings: g.settings(), Rules: g.rules(), IsShuttingDown: g.in(20)}
	for _, d := range domains {
		h.Domains = append(h.Domains, g.domain(d))
	}
	h.List = g.list(h.Domains)
	for range g.IntN(4 + len(domains)/4) {
		h.Tickets = append(h.Tickets, g.ticket(one(g, h.Domains)))
	}
	for range g.IntN(3 + len(domains)/10) {
		h.Holds = append(h.Holds, g.hold(one(g, h.Domains)))
	}
	for i := range h.Domains {
		g.ask(&h, &h.Domains[i])
	}
	return h
}

// one returns an element of a list.
func one[T any](g *generator, list []T) T { return list[g.IntN(len(list))] }

// in reports true once in n times.
func (g *generator) in(n int) bool { return g.IntN(n) == 0 }

// some returns some elements of a list.
func some[T any](g *generator, list []T) []T {
	return slices.DeleteFunc(slices.Clone(list), func(T) bool { return g.in(2) })
}

var (
	stems      = []string{"pg", "web", "ci", "PG", "db[x]", "a*b", "žluť"}
	operations = []string{"stop", "stop", "stop", "delete", "delete", "modify", "reset", "pause", "move", "tamper"}
)

func (g *generator) domain(d Domain) Domain {
	if d.Operation == "" {
		d.Operation = one(g, operations)
	}
	g.times = nil
	for range 1 + g.IntN(3) {
		d.Metadata = append(d.Metadata, g.element(d.UUID))
	}
	if len(g.times) > 0 && g.in(2) {
		d.At = one(g, g.times)
	}
	return d
}

func (g *generator) uuid() string {
	return fmt.Sprintf("%08x-%04x-4%03x-a%03x-%012x", g.Uint32(), g.IntN(1<<16), g.IntN(1<<12), g.IntN(1<<12), g.Int64N(1<<48))
}

// moment returns a time, by seconds, on either side of now.
func (g *generator) moment() time.Time {
	distance := Near + time.Duration(g.Int64N(int64(40*24*time.Hour)))
	if g.in(3) {
		distance = -distance
	}
	return g.now.Add(distance).Truncate(time.Second)
}

// until returns a time as people write it in a mark, and adds its end to times.
func (g *generator) until() string {
	at := g.moment()
	switch g.IntN(8) {
	case 0:
		return one(g, []string{"soon", "2026-02-31", "9999-12-31", "0001-01-01", at.Format("2006-01-02 15:04")})
	case 1, 2:
		if day := at.Truncate(24 * time.Hour); day.Sub(g.now).Abs() > 2*24*time.Hour {
			g.times = append(g.times, day.Add(24*time.Hour))
			return day.Format(time.DateOnly)
		}
	case 3:
		at = at.Add(123 * time.Millisecond)
	case 4:
		g.times = append(g.times, at)
		return at.In(time.FixedZone("", 5*3600+45*60)).Format(time.RFC3339)
	}
	g.times = append(g.times, at)
	return at.Format(time.RFC3339Nano)
}

// element returns an element in <metadata>, which mostly is a mark.
func (g *generator) element(uuid string) string {
	switch g.IntN(24) {
	case 0: // metadata that cannot be read
		return one(g, []string{`<a:b/>`, `<a b='1' b='2'/>`, "<\U0001f600/>"})
	case 1: // it resembles a mark
		return one(g, []string{
			`<protection xmlns="urn:stopguard:protection:2"/>`, `<protection xmlns="urn:stopgard:protection:1"/>`,
			`<lock xmlns="urn:stopguard:protection:1" operations="reset"/>`,
			`<x xmlns="urn:x"><protection xmlns="urn:stopguard:protection:1" operations="modify stop"/></x>`,
		})
	case 2:
		return `<app xmlns="urn:example" protection="yes"/>`
	}
	mark := `<protection xmlns="urn:stopguard:protection:1"`
	attribute := func(name, value string) { mark += fmt.Sprintf(" %s=\"%s\"", name, escaped(value)) }
	if !g.in(4) {
		attribute("reason", one(g, []string{"billing primary", "", "(rule x)", "a \"b\" <c> & 'd'", "  ", "líne\none"}))
	}
	if g.in(4) {
		attribute("owner", "anna")
	}
	if !g.in(3) {
		attribute("until", g.until())
	}
	switch g.IntN(8) {
	case 0: // of a clone
		attribute("domain", g.uuid())
	case 1:
		attribute("domain", one(g, []string{uuid, strings.ToUpper(uuid), strings.ReplaceAll(uuid, "-", ""), "pg", ""}))
	}
	if g.in(2) {
		attribute("operations", g.named())
	}
	return mark + "/>"
}

// named returns operations as a mark names them.
func (g *generator) named() string {
	all := []string{"stop", "delete", "modify", "reset", "pause", "move", "tamper"}
	switch g.IntN(8) {
	case 0:
		return one(g, []string{"", " ", "stopp", "STOP", "delete;stop", "all"})
	case 1:
		return one(g, all)
	}
	return strings.Join(some(g, all), one(g, []string{" ", ",", ", ", "\n"}))
}

func (g *generator) list(domains []Domain) []string {
	if g.in(4) {
		return nil
	}
	list := []string{"# protected"}
	for range g.IntN(4 + len(domains)/16) {
		d := one(g, domains)
		list = append(list, one(g, []string{
			d.Name, "  " + d.Name + " # why", d.UUID, strings.ToUpper(d.UUID), "{" + d.UUID + "}", `"` + d.UUID + `",`, strings.ReplaceAll(d.UUID, "-", ""),
			"urn:uuid:" + d.UUID, "pg-*1", "?g-0?", "[pw]*-1*", `db\[x\]-*`, "a*b-*", "*-3[^0-4]", g.uuid(), "gone-01", strings.ToUpper(d.Name),
		}))
	}
	return list
}

func (g *generator) ticket(d Domain) Ticket {
	t := Ticket{Operation: d.Operation, Granted: g.now.Add(-time.Duration(g.IntN(20*24)) * time.Hour), IsCopied: g.in(8), IsEdited: g.in(8)}
	if g.in(4) {
		t.Operation = one(g, operations)
	}
	t.For = g.moment().Sub(t.Granted)
	if t.For <= 0 || t.For > 29*24*time.Hour {
		t.For = g.now.Add(Near).Sub(t.Granted)
	}
	if g.in(3) {
		t.Pattern = one(g, []string{"*", "pg-*", "*-*[02468]", d.Name, "web-??", `db\[x\]*`})
	} else {
		t.Domain = d.UUID
	}
	if g.in(2) {
		t.Approval = &Approval{Needed: 1 + g.IntN(2), Approvers: g.IntN(3), IsLate: g.in(6), BreakGlass: g.in(6)}
	}
	return t
}

func (g *generator) hold(d Domain) Hold {
	h := Hold{Domain: d.UUID, State: Live}
	switch g.IntN(6) {
	case 0:
		h.State = Dead
	case 1:
		h.State = Garbled
	}
	if g.in(2) {
		h.Operations = some(g, []string{"stop", "delete", "modify", "reset", "pause", "move", "tamper"})
	}
	if g.in(2) {
		h.AtMost = Near + time.Duration(g.Int64N(int64(20*24*time.Hour)))
	}
	return h
}

// ask chooses the time of the question about a domain: now, or the begin or end of one of its
// parts, to the nanosecond.
func (g *generator) ask(h *Host, d *Domain) {
	d.Shift = one(g, []time.Duration{0, 0, 1, -1, time.Second, -time.Second})
	for _, t := range h.Tickets {
		if t.Domain == d.UUID && g.in(2) {
			d.At = t.Granted.Add(t.For)
		}
	}
	for _, x := range h.Holds {
		if x.Domain == d.UUID && x.AtMost > 0 && g.in(2) {
			d.AtHoldEnd = true
		}
	}
	if d.At.IsZero() && !d.AtHoldEnd {
		d.Shift = 0
	}
}
