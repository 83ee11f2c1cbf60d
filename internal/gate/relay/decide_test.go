package relay

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stopguard/stopguard"
	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/gate/call"
	"github.com/stopguard/stopguard/internal/gate/wire"
	"github.com/stopguard/stopguard/internal/testhost"
	"github.com/stopguard/stopguard/policy/ticket"
)

func TestACallThatNothingIsAgainstPassesAsItCame(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	client, daemon := s.connect()
	m := about(destroyFlags, ordinary, 1)
	m.payload = append(m.payload, "garbage"...)
	client.say(t, m)
	daemon.answerXML(t)
	got := daemon.next(t)
	want := m.frame()
	if diff := cmp.Diff(want, got.frame()); diff != "" {
		t.Error(diff)
	}
	s.asking.Lock()
	defer s.asking.Unlock()
	if len(s.asked) != 1 {
		t.Fatalf("asked %d times", len(s.asked))
	}
	r := s.asked[0]
	if r.Caller.PID == 0 || r.Caller.User == "" || len(r.Caller.Groups) == 0 {
		t.Errorf("the caller is %+v", r.Caller)
	}
	if r.Domain.UUID != ordinary || r.Domain.ID != 7 {
		t.Errorf("the domain is %+v", r.Domain)
	}
	r.Caller, r.Domain, r.Starting, r.Call = nil, nil, nil, nil
	if diff := cmp.Diff(stopguard.Request{Operation: "stop", Procedure: "DOMAIN_DESTROY_FLAGS", Flags: []string{"graceful"}}, r); diff != "" {
		t.Error(diff)
	}
}

// A fault's line says so, and how to switch the gate off.
func TestWhatCannotBeDecidedIsRefusedAndSaysWhy(t *testing.T) {
	t.Parallel()
	answer := func(code int32, text string) func(*end, message) {
		return func(daemon *end, q message) {
			q.Kind, q.Status = wire.Reply, wire.Failed
			q.payload = (&wire.Error{Code: code, Domain: wire.FromQEMU, Message: text}).AppendPayload(nil)
			_ = daemon.Send(q.frame(), nil)
		}
	}
	xml := func(text string) func(*end, message) {
		return func(daemon *end, q message) {
			q.Kind = wire.Reply
			q.payload = wire.AppendString(nil, text)
			_ = daemon.Send(q.frame(), nil)
		}
	}
	const off = "; to switch the guard off: touch /etc/stopguard/gate-off"
	verdict := func(f func() error) func(*Gate) {
		return func(g *Gate) { g.Decide = func(context.Context, stopguard.Request) error { return f() } }
	}
	for _, tt := range []struct {
		why    string
		change func(*Gate)
		reply  func(*end, message) // what libvirtd gives for the XML
		want   string              // of the line; "" if the call passes
		code   int32
	}{
		{"libvirtd knows no such domain: it may when the call comes to it", nil,
			answer(wire.CodeNoDomain, "Domain not found: no domain with matching uuid '1' ()"), "Domain not found: no domain with matching uuid '1' (a-name)", wire.CodeNoDomain},
		{"another driver says so in other words", nil, answer(wire.CodeNoDomain, "Domain not found"), "Domain not found", wire.CodeNoDomain},
		{"the client may not read the domain: libvirtd might let it end it nevertheless", nil,
			answer(wire.CodeAccessDenied, "access denied: 'QEMU' denied access"), "access denied: 'QEMU' denied access", wire.CodeAccessDenied},
		{"the connection has no domains", nil, answer(wire.CodeNoSupport, "this function is not supported"), "this function is not supported", wire.CodeNoSupport},
		{"nobody has logged in yet", nil, func(daemon *end, q message) {
			q.Kind, q.Status = wire.Reply, wire.Failed
			q.payload = (&wire.Error{Code: wire.CodeRPC, Domain: wire.FromRPC, Message: "authentication required"}).AppendPayload(nil)
			_ = daemon.Send(q.frame(), nil)
		}, "authentication required", wire.CodeRPC},
		{"libvirtd fails", nil, answer(1, "internal error: oh no"),
			"stopguard: fault: " + ordinary + ": libvirtd does not say what it was asked: internal error: oh no; look at libvirtd's log" + off, wire.CodeAccessDenied},
		{"the XML is that of another domain", nil, xml(xmlOf(protected)),
			"stopguard: fault: " + ordinary + ": libvirtd gave the XML of " + protected + " instead; report this" + off, wire.CodeAccessDenied},
		{"the XML is none", nil, xml("<domain>"), "stopguard: fault: " + ordinary + ": ", wire.CodeAccessDenied},
		{"the policy cannot be read", verdict(func() error { return errOther }), nil,
			"stopguard: fault: web-01: the list cannot be read; make it readable" + off, wire.CodeAccessDenied},
		{"the policy crashes", verdict(func() error { panic("oh\nno") }), nil,
			"stopguard: fault: web-01: the guard crashed: oh\ufffdno; report this as a bug" + off, wire.CodeAccessDenied},
		{"a veto in another error", verdict(func() error { return fmt.Errorf("x: %w", &hookproto.Veto{Reason: "no", More: 1}) }), nil,
			"stopguard: veto: web-01: no and 1 more", wire.CodeAccessDenied},
		{"a nil veto", verdict(func() error { return (*hookproto.Veto)(nil) }), nil,
			"stopguard: fault: web-01: the guard answered with a nil veto; report this as a bug" + off, wire.CodeAccessDenied},
		{"the policy is late", func(g *Gate) {
			g.patience = late
			g.Decide = func(ctx context.Context, _ stopguard.Request) error {
				<-ctx.Done()
				time.Sleep(time.Millisecond)
				return nil
			}
		}, nil, "stopguard: fault: ", wire.CodeAccessDenied},
		{"libvirtd does not answer", func(g *Gate) { g.patience = late }, func(*end, message) {},
			"stopguard: fault: " + ordinary + ": no decision within 5s; ", wire.CodeAccessDenied},
	} {
		t.Run(tt.why, func(t *testing.T) {
			s := newStage(t, tt.change)
			client, daemon := s.connect()
			m := about(destroy, ordinary)
			client.say(t, m)
			q := daemon.question(t)
			if tt.reply == nil {
				daemon.reply(t, q)
			} else {
				tt.reply(daemon, q)
			}
			if tt.want == "" {
				if got := daemon.next(t); got.Procedure != destroy {
					t.Errorf("instead of the call comes %+v", got.Header)
				}
				return
			}
			err := client.refused(t, m)
			if !strings.HasPrefix(err.Message, tt.want) || err.Code != tt.code {
				t.Errorf("%d, %q; want %d, %q", err.Code, err.Message, tt.code, tt.want)
			}
			untouched(t, client, daemon)
		})
	}
}

// What could not be decided for want of the domain is recorded as what could not be decided for
// want of a policy.
func TestTheGuardIsToldWhyItCouldNotBeAskedAboutADomain(t *testing.T) {
	t.Parallel()
	for why, silent := range map[string]bool{"libvirtd fails": false, "libvirtd does not answer": true} {
		t.Run(why, func(t *testing.T) {
			s := newStage(t, func(g *Gate) { g.patience = late })
			client, daemon := s.connect()
			m := about(destroyFlags, ordinary, 1)
			client.say(t, m)
			q := daemon.question(t)
			if !silent {
				q.Kind, q.Status = wire.Reply, wire.Failed
				q.payload = (&wire.Error{Code: 1, Domain: wire.FromQEMU, Message: "oh no"}).AppendPayload(nil)
				daemon.say(t, q)
			}
			line := client.refused(t, m).Message
			s.asking.Lock()
			defer s.asking.Unlock()
			if len(s.asked) != 1 || s.asked[0].Err == nil || s.asked[0].Caller == nil {
				t.Fatalf("asked %+v", s.asked)
			}
			r := s.asked[0]
			if !strings.Contains(line, r.Err.Error()) {
				t.Errorf("recorded %q, and answered %q", r.Err, line)
			}
			r.Caller, r.Err = nil, nil
			if diff := cmp.Diff(stopguard.Request{Operation: "stop", Procedure: "DOMAIN_DESTROY_FLAGS", Flags: []string{"graceful"}, Name: ordinary}, r); diff != "" {
				t.Error(diff)
			}
		})
	}
}
func TestArgumentsThatCannotBeReadAreAFault(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	client, daemon := s.connect()
	m := message{Header: wire.Header{Procedure: destroy}, payload: []byte{0, 0}}
	client.say(t, m)
	if err := client.refused(t, m); !strings.HasPrefix(err.Message, "stopguard: fault: DOMAIN_DESTROY: the arguments of DOMAIN_DESTROY are not as") {
		t.Error(err.Message)
	}
	untouched(t, client, daemon)
}

func TestAHostIsSuspendedOnlyIfEveryDomainMayBe(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		why     string
		domains []string
		vetoed  bool
	}{
		{"nothing runs", nil, false},
		{"nothing that is protected", []string{ordinary, absent}, false},
		{"something that is", []string{ordinary, protected}, true},
	} {
		t.Run(tt.why, func(t *testing.T) {
			s := newStage(t, nil)
			client, daemon := s.connect()
			m := message{Header: wire.Header{Procedure: nodeSuspend}, payload: make([]byte, 16)}
			client.say(t, m)
			q := daemon.next(t)
			if q.Procedure != listDomains {
				t.Fatalf("instead of a question for domains comes %+v", q.Header)
			}
			q.Kind, q.payload = wire.Reply, wire.AppendUint32(nil, uint32(len(tt.domains)))
			for _, uuid := range tt.domains {
				var err error
				q.payload, err = wire.AppendDomain(q.payload, "x", uuid)
				must(t, err)
			}
			q.payload = wire.AppendUint32(q.payload, uint32(len(tt.domains)))
			daemon.say(t, q)
			for range tt.domains {
				daemon.answerXML(t)
			}
			if tt.vetoed {
				client.vetoed(t, m)
				untouched(t, client, daemon)
			} else if got := daemon.next(t); got.Procedure != nodeSuspend {
				t.Errorf("instead of the call comes %+v", got.Header)
			}
		})
	}
}

func TestADefinitionThatTakesTheMarkAwayIsDecided(t *testing.T) {
	t.Parallel()
	const mark = `<metadata><protection xmlns="urn:stopguard:protection:1"/></metadata>`
	definition := func(metadata string) string {
		return strings.Replace(xmlOf(protected), "</uuid>", "</uuid>"+metadata, 1)
	}
	for _, tt := range []struct {
		why, before, after string
		asked              bool // for the live XML too
	}{
		{"it keeps it", definition(mark), definition(mark), false},
		{"it takes it away", definition(mark), definition(""), true},
		{"there was none", definition(""), definition(""), false},
	} {
		t.Run(tt.why, func(t *testing.T) {
			s := newStage(t, nil)
			client, daemon := s.connect()
			m := message{Header: wire.Header{Procedure: 350}, payload: wire.AppendUint32(wire.AppendString(nil, tt.after), 0)}
			client.say(t, m)
			q := daemon.question(t)
			if flags := q.payload[len(q.payload)-1]; flags != inactiveXML {
				t.Errorf("asked with flags %d", flags)
			}
			q.Kind, q.payload = wire.Reply, wire.AppendString(nil, tt.before)
			daemon.say(t, q)
			if tt.asked {
				daemon.answerXML(t)
				client.vetoed(t, m)
				untouched(t, client, daemon)
			} else if got := daemon.next(t); got.Procedure != 350 {
				t.Errorf("instead of the call comes %+v", got.Header)
			}
		})
	}
	t.Run("it names no UUID, so that libvirt touches no domain that is there", func(t *testing.T) {
		s := newStage(t, nil)
		client, daemon := s.connect()
		client.say(t, message{Header: wire.Header{Procedure: 11}, payload: wire.AppendString(nil, "<domain><name>pg-primary-01</name></domain>")})
		if got := daemon.next(t); got.Procedure != 11 {
			t.Errorf("instead of the call comes %+v", got.Header)
		}
	})
}

func TestADomainThatWouldDieWithItsConnectionIsDecidedAtItsStart(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	client, daemon := s.connect()
	const autodestroy = 2
	start := func(text string) message {
		return message{Header: wire.Header{Procedure: 10, Serial: 9}, payload: wire.AppendUint32(wire.AppendString(nil, text), autodestroy)}
	}
	m := start(xmlOf(protected)) // it is there, and off
	client.say(t, m)
	daemon.answerXML(t)
	client.vetoed(t, m)
	m = start(strings.Replace(xmlOf(absent), "web-01", protected, 1)) // it is not there, and its XML is asked about
	client.say(t, m)
	daemon.answerXML(t)
	if err := client.refused(t, m); !strings.HasPrefix(err.Message, "stopguard: veto: "+protected+":") {
		t.Error(err.Message)
	}
	s.asking.Lock()
	for _, r := range s.asked {
		if !r.Deferred {
			t.Errorf("%s would be let go because the domain is off", r.Procedure)
		}
	}
	s.asking.Unlock()
	client.say(t, start("<domain type='qemu'><name>new</name></domain>")) // it lacks a UUID, so the gate does not fetch XML
	if got := daemon.next(t); got.Procedure != 10 {
		t.Errorf("instead of the call comes %+v", got.Header)
	}
}

func TestADomainThatIsStartedWithoutItsMarkIsDecided(t *testing.T) {
	t.Parallel()
	const autodestroy = 2
	marked := strings.Replace(xmlOf(protected), "</uuid>", `</uuid><metadata><protection xmlns="urn:stopguard:protection:1"/></metadata>`, 1)
	create := func(xml string, flags uint32) message {
		return message{Header: wire.Header{Procedure: 10, Serial: 9}, payload: wire.AppendUint32(wire.AppendString(nil, xml), flags)}
	}
	restore := func(xml string) message {
		payload := wire.AppendString(nil, "/var/lib/saved")
		if xml == "" {
			payload = wire.AppendUint32(payload, 0)
		} else {
			payload = wire.AppendString(wire.AppendUint32(payload, 1), xml)
		}
		return message{Header: wire.Header{Procedure: 233, Serial: 9}, payload: wire.AppendUint32(payload, 0)}
	}
	for _, tt := range []struct {
		why    string
		call   message
		before string // the XML of the domain; "" if it must not be fetched
		asked  string
	}{
		{"this run would have no mark", create(xmlOf(protected), 0), marked, "modify"},
		{"nor would this one, and it would end with its connection", create(xmlOf(protected), autodestroy), marked, "stop"},
		{"it keeps it, and ends with its connection", create(marked, autodestroy), marked, "stop"},
		{"it keeps it", create(marked, 0), marked, ""},
		{"there was none", create(marked, 0), xmlOf(protected), ""},
		{"its memory is restored without it", restore(xmlOf(protected)), marked, "modify"},
		{"it is restored with it", restore(marked), marked, ""},
		{"it is restored as it was saved", restore(""), "", ""},
		{"it has no UUID, and nobody can be meant", create("<domain type='qemu'><name>new</name></domain>", 0), "", ""},
		{"libvirtd shall say that it is nothing", create(" ", 0), "", ""},
	} {
		t.Run(tt.why, func(t *testing.T) {
			s := newStage(t, nil)
			client, daemon := s.connect()
			client.say(t, tt.call)
			if tt.before != "" {
				daemon.replyXML(t, tt.before)
			}
			if tt.asked != "" {
				client.vetoed(t, tt.call)
			} else if got := daemon.next(t); !bytes.Equal(got.payload, tt.call.payload) {
				t.Errorf("instead of the call comes %+v", got.Header)
			}
			s.asking.Lock()
			defer s.asking.Unlock()
			asked := ""
			for _, r := range s.asked {
				asked += r.Operation
			}
			if asked != tt.asked {
				t.Errorf("asked about %q, want %q", asked, tt.asked)
			}
		})
	}
}

func TestADomainThatIsMovedOrSavedWithoutItsMarkIsDecided(t *testing.T) {
	t.Parallel()
	marked := strings.Replace(xmlOf(ordinary), "</uuid>", `</uuid><metadata><protection xmlns="urn:stopguard:protection:1"/></metadata>`, 1)
	const begin, save = 213, 232
	optional := func(b []byte, s string) []byte {
		if s == "" {
			return wire.AppendUint32(b, 0)
		}
		return wire.AppendString(wire.AppendUint32(b, 1), s)
	}
	call := func(procedure uint32, xml, name string) message {
		m := about(procedure, ordinary)
		if procedure == save {
			m.payload = wire.AppendUint32(optional(wire.AppendString(m.payload, "/var/lib/saved"), xml), 0)
		} else {
			m.payload = optional(append(optional(m.payload, xml), 0, 0, 0, 0, 0, 0, 0, 1), name)
		}
		return m
	}
	for _, tt := range []struct {
		why   string
		call  message
		asked string
	}{
		{"it moves as it is", call(begin, "", ""), "move"},
		{"it moves with its mark", call(begin, marked, "web-01"), "move"},
		{"it runs on without its mark", call(begin, xmlOf(ordinary), ""), "move modify"},
		{"it runs on by another name", call(begin, "", "web-02"), "move modify"},
		{"it is saved as it is", call(save, "", ""), "stop"},
		{"it is saved without its mark", call(save, xmlOf(ordinary), ""), "stop modify"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			s := newStage(t, nil)
			client, daemon := s.connect()
			client.say(t, tt.call)
			daemon.replyXML(t, marked)
			if got := daemon.next(t); !bytes.Equal(got.payload, tt.call.payload) {
				t.Errorf("instead of the call comes %+v", got.Header)
			}
			s.asking.Lock()
			defer s.asking.Unlock()
			var asked []string
			for _, r := range s.asked {
				asked = append(asked, r.Operation)
			}
			if got := strings.Join(asked, " "); got != tt.asked {
				t.Errorf("asked about %q, want %q", got, tt.asked)
			}
		})
	}
}

func TestAGateThatIsOffLetsEverythingPass(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(g *Gate) { g.Off = func() bool { return true } })
	client, daemon := s.connect()
	for _, m := range []message{about(destroy, protected), {Header: wire.Header{Procedure: setIdentity}}} {
		client.say(t, m)
		if got := daemon.next(t); got.Procedure != m.Procedure || !bytes.Equal(got.payload, m.payload) {
			t.Errorf("instead of the call comes %+v", got.Header)
		}
	}
}

func TestAProcedureOfANewerLibvirtPassesUnlessTheHostSaysOtherwise(t *testing.T) {
	t.Parallel()
	for _, refuse := range []bool{false, true} {
		s := newStage(t, func(g *Gate) { g.RefuseUnknown = refuse })
		client, daemon := s.connect()
		for _, h := range []wire.Header{{Program: call.Remote, Version: 1, Procedure: 5000}, {Program: 7, Version: 1, Procedure: 1}} {
			m := message{Header: h}
			client.say(t, m)
			if !refuse {
				if got := daemon.next(t); got.Procedure != h.Procedure || got.Program != h.Program {
					t.Errorf("instead of the call comes %+v", got.Header)
				}
			} else if err := client.refused(t, m); !strings.Contains(err.Message, "does not know this procedure") {
				t.Error(err.Message)
			}
		}
		untouched(t, client, daemon)
	}
}

func TestUnknownProceduresAreReportedABoundedNumberOfTimes(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	for n := range uint32(10 * maxUnknown) {
		s.reportUnknown(wire.Header{Program: call.Remote, Procedure: 1000 + n})
	}
	reported := 0
	s.unknown.Range(func(any, any) bool { reported++; return true })
	if reported != maxUnknown {
		t.Errorf("%d are remembered", reported)
	}
}

// A create over a domain that is off, without its mark, is a modify and a delete. A ticket for
// both, of an older version, is taken once, and lifts both. So does one for the host.
func TestOneTicketLiftsBothHalvesOfACreate(t *testing.T) {
	t.Parallel()
	marked := strings.Replace(xmlOf(protected), "</uuid>", `</uuid><metadata><protection xmlns="urn:stopguard:protection:1" operations="stop,delete,modify"/></metadata>`, 1)
	marked = strings.Replace(marked, " id='7'", "", 1)
	for _, of := range []ticket.Ticket{{Domain: protected}, {Name: "pg-*"}} {
		root := testhost.Root(t)
		testhost.Daemon(t, root)
		testhost.Put(t, root, "run/libvirt/qemu/readme", "")
		s := newStage(t, func(g *Gate) { g.Decide = stopguard.Decide(stopguard.Config{Root: root}) })
		client, daemon := s.connect()
		create := message{Header: wire.Header{Procedure: 10, Serial: 9}, payload: wire.AppendUint32(wire.AppendString(nil, xmlOf(protected)), 0)}
		refused := func(why string) {
			t.Helper()
			client.say(t, create)
			daemon.replyXML(t, marked)
			if err := client.refused(t, create); err.Code != wire.CodeAccessDenied || !strings.Contains(err.Message, "stopguard: veto: ") {
				t.Errorf("%s: %d, %q", why, err.Code, err.Message)
			}
		}
		refused("without a ticket")
		of.Operation, of.Reason, of.Requester, of.NotAfter = "tamper", "disk swap", "anna", time.Now().Add(time.Hour)
		_, err := ticket.Store{Root: root}.Grant(of, time.Now())
		must(t, err)
		client.say(t, create)
		daemon.replyXML(t, marked)
		if got := daemon.next(t); !bytes.Equal(got.payload, create.payload) {
			t.Fatalf("instead of the call comes %+v", got.Header)
		}
		daemon.say(t, message{Header: wire.Header{Procedure: 10, Serial: 9, Kind: wire.Reply}})
		client.next(t)
		refused("the ticket is used up")
	}
}
