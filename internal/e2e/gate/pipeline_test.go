//go:build e2e

package e2e

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stopguard/stopguard/internal/e2ehost"
	"github.com/stopguard/stopguard/internal/gate/call"
	"github.com/stopguard/stopguard/internal/gate/wire"
)

// A raw client sends calls without waiting for answers.
type raw struct {
	*host
	conn net.Conn
}

// The procedures that it calls.
const (
	connectOpen   = 1
	domainDestroy = 12
	domainSuspend = 34
	authList      = 66
	domainCreate  = 196
)

// dialGate connects to the gate and opens.
func (h *host) dialGate() *raw { return h.connectGate().open() }

// connectGate connects to the gate without sending anything.
func (h *host) connectGate() *raw { return h.connect(gateSocket) }

// open sends the calls with which every client begins, and names the URI.
func (r *raw) open() *raw {
	r.answers(r.frame(authList, 0, nil), 1)
	name := wire.AppendUint32(nil, 1)
	name = wire.AppendString(name, "qemu:///system")
	r.answers(r.frame(connectOpen, 1, wire.AppendUint32(name, 0)), 1)
	return r
}

func (h *host) connect(path string) *raw {
	conn, err := net.Dial("unix", path)
	if err != nil {
		h.Fatalf("%v", err)
	}
	r := &raw{h, conn}
	_ = conn.SetDeadline(time.Now().Add(3 * e2ehost.Patience))
	return r
}

func (r *raw) frame(procedure, serial uint32, args []byte) []byte {
	return wire.Frame(wire.Header{Program: call.Remote, Version: 1, Procedure: procedure, Serial: serial}, args)
}

func (r *raw) about(procedure, serial uint32, g e2ehost.Guest, flags ...uint32) []byte {
	args, err := wire.AppendDomain(nil, g.Name, g.UUID)
	if err != nil {
		r.Fatalf("%v", err)
	}
	for _, f := range flags {
		args = wire.AppendUint32(args, f)
	}
	return r.frame(procedure, serial, args)
}

// answers sends frames at once and returns the answers by procedure: "ok", or an error's code and
// text.
func (r *raw) answers(frames []byte, n int) map[uint32]string {
	if _, err := r.conn.Write(frames); err != nil {
		r.Fatalf("%v", err)
	}
	got := map[uint32]string{}
	for len(got) < n {
		length := make([]byte, 4)
		if _, err := io.ReadFull(r.conn, length); err != nil {
			r.Fatalf("%v", err)
		}
		rest := make([]byte, binary.BigEndian.Uint32(length)-4)
		if _, err := io.ReadFull(r.conn, rest); err != nil {
			r.Fatalf("%v", err)
		}
		word := func(i int) uint32 { return binary.BigEndian.Uint32(rest[4*i:]) }
		if word(0) != call.Remote || word(3) != uint32(wire.Reply) {
			continue
		}
		answer := "ok"
		if word(5) != uint32(wire.OK) {
			e, err := wire.ReadError(rest[wire.HeaderSize-4:])
			if err != nil {
				r.Fatalf("%v", err)
			}
			answer = fmt.Sprint(e.Code, " ", e.Message)
		}
		got[word(2)] = answer
	}
	return got
}

// pipeline starts a protected guest from its saved memory and destroys it with the next frame, and
// meanwhile also from other connections.
func (h *host) pipeline() {
	h.beginDefault(listed)
	one, other := h.dialGate(), h.dialGate()
	note := func(name string, answers ...string) {
		s := step{Name: name, State: h.State(listed)}
		for _, a := range answers {
			s.Records = append(s.Records, strings.TrimPrefix(a, fmt.Sprint(wire.CodeAccessDenied, " ")))
		}
		if strings.HasPrefix(s.State, "running") {
			s.Memory = h.Ask(listed)
		} else {
			h.DirectOK("start", listed.Name)
			h.Ask(listed)
		}
		h.Remind(listed)
		h.seen = append(h.seen, s)
	}
	for round := range 12 {
		h.Doing = fmt.Sprint("in one breath, ", round)
		h.DirectOK("managedsave", listed.Name)
		got := one.answers(append(one.about(domainCreate, 100, listed, 0), one.about(domainDestroy, 101, listed)...), 2)
		note(h.Doing, got[domainCreate], got[domainDestroy])
	}
	for round := range 6 {
		h.Doing = fmt.Sprint("from elsewhere, ", round)
		h.DirectOK("managedsave", listed.Name)
		started := make(chan string)
		go func() { started <- one.answers(one.about(domainCreate, 100, listed, 0), 1)[domainCreate] }()
		var answers []string
		for create := ""; create == ""; {
			answers = append(answers, other.answers(other.about(domainDestroy, 100, listed), 1)[domainDestroy])
			select {
			case create = <-started:
				answers = append([]string{create}, answers...)
			default:
			}
		}
		note(h.Doing, answers...)
	}
}

// created creates a protected guest that libvirtd did not know, while another client sends one
// destroy after the other.
func (h *host) created() {
	h.beginDefault(listed)
	h.DirectOK("destroy", listed.Name)
	h.DirectOK("undefine", listed.Name)
	const createXML = 10
	xml := wire.AppendUint32(wire.AppendString(nil, listed.XML()), 0)
	one, other, direct := h.dialGate(), h.dialGate(), h.connect(pastSocket).open()
	destroy := func(r *raw) string { return r.answers(r.about(domainDestroy, 100, listed), 1)[domainDestroy] }
	h.seen = append(h.seen, step{Name: "unknown", Through: e2ehost.Answer{Stdout: destroy(other)}, Direct: e2ehost.Answer{Stdout: destroy(direct)}})
	for round := range 12 {
		h.Doing = fmt.Sprint("created, ", round)
		s := step{Name: h.Doing}
		done := make(chan string)
		go func() { done <- one.answers(one.frame(createXML, 100, xml), 1)[createXML] }()
		for created := ""; created == ""; {
			s.Records = append(s.Records, destroy(other))
			select {
			case created = <-done:
				s.Records = append([]string{created}, s.Records...)
			default:
			}
		}
		s.State = h.State(listed)
		if strings.HasPrefix(s.State, "running") {
			h.DirectOK("destroy", listed.Name)
		}
		h.seen = append(h.seen, s)
	}
}

func TestAGuestIsNotEndedWhileLibvirtdGetsToKnowIt(t *testing.T) {
	answers := map[string]int{}
	for _, s := range on(t, "created") {
		if s.Name == "unknown" {
			if s.Through != s.Direct || !strings.HasPrefix(s.Direct.Stdout, fmt.Sprint(wire.CodeNoDomain, " ")) {
				t.Errorf("the gate says %q; libvirtd says %q", s.Through.Stdout, s.Direct.Stdout)
			}
			continue
		}
		if !strings.HasPrefix(s.State, "running") || s.Records[0] != "ok" {
			t.Errorf("%s: it is %s, its start ended with %q", s.Name, s.State, s.Records[0])
		}
		for _, a := range s.Records[1:] {
			if answers[a]++; a == "ok" {
				t.Errorf("%s: a destroy of it passes", s.Name)
			}
		}
	}
	t.Log(answers)
}

func TestAGuestIsNotEndedInTheMiddleOfItsStart(t *testing.T) {
	for _, s := range on(t, "pipeline") {
		t.Run(s.Name, func(t *testing.T) {
			if !strings.HasPrefix(s.State, "running") || s.Memory != e2ehost.Kept || s.Records[0] != "ok" {
				t.Errorf("it is %s, its memory %q, and its start ended with %q", s.State, s.Memory, s.Records[0])
			}
			answers := map[string]int{}
			for _, a := range s.Records[1:] {
				// While its memory is read, the rule adds that the guest is paused.
				if answers[a]++; !strings.HasPrefix(a, strings.TrimSuffix(byList, " (rule protected_list)")) && a != isOff {
					t.Errorf("it is answered with %q", a)
				}
			}
			t.Log(answers)
		})
	}
}

const isOff = "55 Requested operation is not valid: domain is not running"

// off calls on domains that are off the commands that need a running one, with and without the
// gate.
func (h *host) off() {
	h.begin()
	for _, g := range []e2ehost.Guest{free, control, resting} {
		h.DirectOK("define", h.Write(g))
	}
	for _, c := range virshCases {
		if c.passes || c.resting || strings.HasPrefix(c.name, "RENAME") || strings.HasPrefix(c.name, "DEFINE") {
			continue
		}
		if c.name == "REVERT_TO_SNAPSHOT" || strings.HasPrefix(c.name, "SET_") || strings.HasPrefix(c.name, "SNAPSHOT") {
			continue // libvirtd does it
		}
		h.Doing = c.name
		withoutGate := h.OnDirect(c.on(control.Name)...)
		for _, g := range []e2ehost.Guest{free, resting} {
			h.seen = append(h.seen, step{Name: c.name + ", " + g.Name, Through: h.Virsh(c.on(g.Name)...), Direct: withoutGate, Memory: g.Name})
		}
	}
}

func TestOfADomainThatIsOffTheGateSaysWhatLibvirtdSays(t *testing.T) {
	same := 0
	for _, s := range on(t, "off") {
		t.Run(s.Name, func(t *testing.T) {
			direct := strings.ReplaceAll(s.Direct.Stderr, control.Name, s.Memory)
			if s.Through.Exit != s.Direct.Exit || s.Through.Stderr != direct {
				t.Errorf("with the gate %d, %q;\nwithout it %d, %q", s.Through.Exit, s.Through.Stderr, s.Direct.Exit, direct)
			}
			if strings.HasSuffix(direct, "error: Requested operation is not valid: domain is not running\n") {
				same++
			}
		})
	}
	if same < 40 {
		t.Errorf("%d commands only are for a domain that runs", same)
	}
}
