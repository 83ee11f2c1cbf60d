package relay

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stopguard/stopguard"
	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/gate/wire"
)

const (
	undefine         = 35
	revertToSnapshot = 192
)

// replyXML answers the gate's question for XML with this.
func (e *end) replyXML(t *testing.T, xml string) {
	t.Helper()
	q := e.question(t)
	q.Kind, q.payload = wire.Reply, wire.AppendString(nil, xml)
	e.say(t, q)
}

// The real libvirtd is asked, and the guest is started from its saved memory, in internal/e2e/gate.
func TestAStopOfADomainThatIsOffNeverReachesLibvirtd(t *testing.T) {
	t.Parallel()
	const live, off = "<domain type='qemu' id='7'>", "<domain type='qemu'>"
	of := func(uuid, root string) string { return strings.Replace(xmlOf(uuid), live, root, 1) }
	revert := message{payload: wire.AppendString(nil, "a-snapshot")}
	domain := about(revertToSnapshot, protected, 0)
	revert.Header, revert.payload = domain.Header, append(revert.payload, domain.payload...)
	for _, tt := range []struct {
		why     string
		call    message
		xml     string
		answer  string // "" if it passes
		isAsked bool
	}{
		{"it may be started by the time that libvirtd gets the call", about(destroy, protected), of(protected, off), errOff.Message, false},
		{"nor is there anything to do for one that is not protected", about(suspend, ordinary), of(ordinary, off), errOff.Message, false},
		{"it runs, and is decided", about(destroy, protected), of(protected, live), vetoLine, true},
		{"libvirtd does this to a domain that is off", revert, of(protected, off), vetoLine, true},
		{"we do not know what other drivers say", about(destroy, ordinary), of(ordinary, "<domain type='lxc'>"), "", true},
	} {
		t.Run(tt.why, func(t *testing.T) {
			s := newStage(t, nil)
			client, daemon := s.connect()
			client.say(t, tt.call)
			daemon.replyXML(t, tt.xml)
			if tt.answer == "" {
				if got := daemon.next(t); got.Procedure != tt.call.Procedure {
					t.Errorf("instead of the call comes %+v", got.Header)
				}
			} else {
				if err := client.refused(t, tt.call); err.Message != tt.answer {
					t.Errorf("%d, %q; want %q", err.Code, err.Message, tt.answer)
				}
				untouched(t, client, daemon)
			}
			s.asking.Lock()
			defer s.asking.Unlock()
			if asked := len(s.asked) > 0; asked != tt.isAsked {
				t.Errorf("asked: %t", asked)
			}
		})
	}
}

// asksWhetherItStarts asks as a guard does that finds nothing of a domain, and is against its end
// while it starts.
func asksWhetherItStarts(g *Gate) {
	g.Decide = func(ctx context.Context, r stopguard.Request) error {
		if r.Err != nil {
			return r.Err
		}
		starting, err := r.Starting(ctx)
		if starting {
			err = &hookproto.Veto{Reason: "it starts", Rule: "test"}
		}
		return err
	}
}

func TestADomainIsStartingWhileLibvirtdSaysSo(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		why      string
		state    state
		starting bool
	}{
		{"it runs, for a reason with that number", state{running, 11}, false},
		{"it is paused because it is starting up", state{paused, 11}, true},
		{"it is paused by somebody", state{paused, 1}, false},
	} {
		t.Run(tt.why, func(t *testing.T) {
			s := newStage(t, asksWhetherItStarts)
			client, daemon := s.connect()
			daemon.state.Store(&tt.state)
			m := about(destroy, ordinary)
			client.say(t, m)
			daemon.answerXML(t)
			if tt.starting {
				if err := client.refused(t, m); err.Message != "stopguard: veto: web-01: it starts (rule test)" {
					t.Error(err.Message)
				}
				return
			}
			if got := daemon.next(t); got.Procedure != destroy {
				t.Errorf("instead of the call comes %+v", got.Header)
			}
		})
	}
}

func TestOnlyQEMUsDomainsThatHaveAnIDCanBeStarting(t *testing.T) {
	t.Parallel()
	for why, domain := range map[string]string{
		"a container's state is not known": "<domain type='lxc' id='7'>",
		"it is off":                        "<domain type='qemu'>",
	} {
		t.Run(why, func(t *testing.T) {
			s := newStage(t, nil)
			client, daemon := s.connect()
			m := about(undefine, ordinary)
			client.say(t, m)
			daemon.replyXML(t, strings.Replace(xmlOf(ordinary), "<domain type='qemu' id='7'>", domain, 1))
			daemon.next(t)
			s.asking.Lock()
			defer s.asking.Unlock()
			if len(s.asked) != 1 || s.asked[0].Starting != nil {
				t.Errorf("asked %+v", s.asked)
			}
		})
	}
}

func TestWhatLibvirtdDoesNotSayOfADomainsStateIsNoState(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		why  string
		code int32
		want string // of the answer; "" if the call passes
	}{
		{"it has gone: there is nothing to protect", wire.CodeNoDomain, ""},
		{"the client may not read it", wire.CodeAccessDenied, "no state"},
		{"libvirtd fails", 1, "stopguard: fault: web-01: libvirtd does not say what it was asked: no state; look at libvirtd's log"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			s := newStage(t, asksWhetherItStarts)
			client, daemon := s.connect()
			daemon.state.Store(nil)
			m := about(destroy, ordinary)
			client.say(t, m)
			daemon.answerXML(t)
			q := daemon.askedState(t)
			q.Kind, q.Status = wire.Reply, wire.Failed
			q.payload = (&wire.Error{Code: tt.code, Domain: wire.FromQEMU, Message: "no state"}).AppendPayload(nil)
			daemon.say(t, q)
			if tt.want == "" {
				if got := daemon.next(t); got.Procedure != destroy {
					t.Errorf("instead of the call comes %+v", got.Header)
				}
				return
			}
			if err := client.refused(t, m); !strings.HasPrefix(err.Message, tt.want) {
				t.Error(cmp.Diff(tt.want, err.Message))
			}
		})
	}
}

func (e *end) askedState(t *testing.T) message {
	t.Helper()
	q := e.next(t)
	if q.Procedure != domainState {
		t.Fatalf("instead of a question for the state comes %+v", q.Header)
	}
	return q
}

func TestWhoWaitsForADomainsStateKeepsNobodyElseFromTheirVerdicts(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(g *Gate) {
		asksWhetherItStarts(g)
		ask := g.Decide
		g.Decide = func(ctx context.Context, r stopguard.Request) error {
			if r.Domain.UUID == protected {
				return ask(ctx, r)
			}
			return nil
		}
	})
	for range cap(s.evaluating) + 1 {
		client, daemon := s.connect()
		daemon.state.Store(nil)
		client.say(t, about(suspend, protected))
		daemon.answerXML(t)
		daemon.askedState(t) // and it is not answered
	}
	client, daemon := s.connect()
	client.say(t, about(suspend, ordinary))
	daemon.answerXML(t)
	if got := daemon.next(t); got.Procedure != suspend {
		t.Errorf("instead of the call comes %+v", got.Header)
	}
	if n := len(s.evaluating); n != 0 {
		t.Errorf("%d places are taken", n)
	}
}
