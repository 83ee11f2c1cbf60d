package relay

import (
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/stopguard/stopguard/internal/gate/wire"
	"github.com/stopguard/stopguard/policy"
)

// identityOf is the call by which virtproxyd says who its client is: no more than a user and a
// group.
func identityOf(uid, gid uint32) message {
	const isUlong = 4
	payload := wire.AppendUint32(nil, 2)
	for _, field := range []struct {
		name string
		id   uint32
	}{{"unix-user-id", uid}, {"unix-group-id", gid}} {
		payload = wire.AppendUint32(wire.AppendString(payload, field.name), isUlong)
		payload = wire.AppendUint32(wire.AppendUint32(payload, 0), field.id)
	}
	return message{Header: wire.Header{Procedure: setIdentity, Serial: 9}, payload: wire.AppendUint32(payload, 0)}
}

// fromRoot has the gate take the test's clients for root's.
func fromRoot(g *Gate) { g.root = os.Getuid() }

// inService puts all clients in a service of libvirt's.
func (s *stage) inService(name string) {
	s.serving.Lock()
	defer s.serving.Unlock()
	for c := range s.connections {
		c.caller.mu.Lock()
		c.caller.peer.Service = name
		c.caller.mu.Unlock()
	}
}

// says sends an identity, which libvirtd accepts or refuses.
func says(t *testing.T, client, daemon *end, m message, accepted bool) {
	t.Helper()
	client.say(t, m)
	got := daemon.next(t)
	if diff := cmp.Diff(m.payload, got.payload); got.Procedure != setIdentity || diff != "" {
		t.Fatalf("%+v reaches libvirtd: %s", got.Header, diff)
	}
	answer := message{Header: wire.Header{Procedure: setIdentity, Serial: m.Serial, Kind: wire.Reply}}
	if !accepted {
		answer.Status, answer.payload = wire.Failed, (&wire.Error{Code: wire.CodeAccessDenied, Domain: wire.FromRPC, Message: "access denied"}).AppendPayload(nil)
	}
	daemon.say(t, answer)
	if got := client.next(t); got.Procedure != setIdentity || got.Kind != wire.Reply || (got.Status == wire.OK) != accepted {
		t.Fatalf("the client reads %+v", got.Header)
	}
}

// callerOf returns the caller that a decision is made about.
func (s *stage) callerOf(client, daemon *end) policy.Caller {
	s.t.Helper()
	client.say(s.t, about(suspend, protected))
	daemon.answerXML(s.t.(*testing.T))
	client.vetoed(s.t.(*testing.T), about(suspend, protected))
	s.asking.Lock()
	defer s.asking.Unlock()
	return *s.asked[len(s.asked)-1].Caller
}

const (
	alice, aliceGroup = 54321, 54322

	noClient   = "stopguard: veto: CONNECT_SET_IDENTITY: no client may do this through the gate"
	onlyOnce   = "stopguard: veto: CONNECT_SET_IDENTITY: an identity is accepted once, before the first call that is decided"
	unreadable = "stopguard: fault: CONNECT_SET_IDENTITY: the identity is not as libvirt has one; look at the client"
)

var (
	viaUnknown = policy.Caller{UID: alice, GID: aliceGroup, LoginUID: policy.UnknownID, Groups: []string{"54322"}, Via: "unknown", ViaPID: os.Getpid()}
	nobody     = policy.Caller{UID: policy.UnknownID, GID: policy.UnknownID, LoginUID: policy.UnknownID, Via: "virtnwfilterd", ViaPID: os.Getpid()}
)

// readOnly returns the caller on a connection that may only read.
func readOnly(caller policy.Caller) policy.Caller {
	caller.ReadOnly = true
	return caller
}

func TestTheCallerIsWhomRootSays(t *testing.T) {
	t.Parallel()
	direct := policy.Caller{UID: os.Getuid(), GID: os.Getgid(), PID: os.Getpid()}
	viaProxy := viaUnknown
	viaProxy.Via = "virtproxyd"
	again := identityOf(alice+1, aliceGroup+1)
	var off atomic.Bool
	nonsense := identityOf(alice, aliceGroup)
	nonsense.payload = nonsense.payload[:20]
	for _, tt := range []struct {
		why    string
		change func(*Gate)
		do     func(t *testing.T, s *stage, client, daemon *end)
		want   policy.Caller
	}{
		{"root says so", fromRoot, func(t *testing.T, s *stage, client, daemon *end) {
			says(t, client, daemon, identityOf(alice, aliceGroup), true)
		}, viaUnknown},
		{"virtproxyd says so", fromRoot, func(t *testing.T, s *stage, client, daemon *end) {
			s.inService("virtproxyd")
			says(t, client, daemon, identityOf(alice, aliceGroup), true)
		}, viaProxy},
		{"virtproxyd says nothing about a client of the network", fromRoot, func(t *testing.T, s *stage, client, daemon *end) {
			s.inService("virtproxyd")
			says(t, client, daemon, message{Header: wire.Header{Procedure: setIdentity, Serial: 9}, payload: make([]byte, 8)}, true)
		}, policy.Caller{UID: policy.UnknownID, GID: policy.UnknownID, LoginUID: policy.UnknownID, Via: "virtproxyd", ViaPID: os.Getpid()}},
		{"the gate is off while root says so", func(g *Gate) { fromRoot(g); g.Off = off.Load }, func(t *testing.T, s *stage, client, daemon *end) {
			off.Store(true)
			says(t, client, daemon, identityOf(alice, aliceGroup), true)
			off.Store(false)
		}, viaUnknown},
		{"another gate takes over", fromRoot, func(t *testing.T, s *stage, client, daemon *end) {
			s.inService("virtproxyd")
			says(t, client, daemon, identityOf(alice, aliceGroup), true)
			s.handOver()
			client.say(t, again)
			client.refusedWith(t, again, onlyOnce)
		}, viaProxy},
		{"root says it while another gate takes over", fromRoot, func(t *testing.T, s *stage, client, daemon *end) {
			m := identityOf(alice, aliceGroup)
			client.begins(t, m.frame()[:40])
			s.handOver()
			must(t, client.Write(m.frame()[40:]))
			if got := daemon.next(t); got.Procedure != setIdentity {
				t.Fatalf("%+v reaches libvirtd", got.Header)
			}
			daemon.say(t, message{Header: wire.Header{Procedure: setIdentity, Serial: m.Serial, Kind: wire.Reply}})
			client.next(t)
		}, viaUnknown},
		{"it is not root", nil, func(t *testing.T, s *stage, client, daemon *end) {
			client.say(t, identityOf(alice, aliceGroup))
			client.refusedWith(t, identityOf(alice, aliceGroup), noClient)
		}, direct},
		{"the connection may only read", func(g *Gate) { fromRoot(g); g.ReadOnly = true }, func(t *testing.T, s *stage, client, daemon *end) {
			says(t, client, daemon, identityOf(alice, aliceGroup), true)
		}, readOnly(viaUnknown)},
		{"the connection may only read, and another gate takes over", func(g *Gate) { fromRoot(g); g.ReadOnly = true }, func(t *testing.T, s *stage, client, daemon *end) {
			says(t, client, daemon, identityOf(alice, aliceGroup), true)
			s.handOver()
		}, readOnly(viaUnknown)},
		{"the connection may only read, and it is not root", func(g *Gate) { g.ReadOnly = true }, func(t *testing.T, s *stage, client, daemon *end) {
			client.say(t, identityOf(alice, aliceGroup))
			client.refusedWith(t, identityOf(alice, aliceGroup), noClient)
		}, readOnly(direct)},
		{"libvirtd refuses it", fromRoot, func(t *testing.T, s *stage, client, daemon *end) {
			says(t, client, daemon, identityOf(alice, aliceGroup), false)
		}, direct},
		{"libvirtd refuses it, and there is no second", fromRoot, func(t *testing.T, s *stage, client, daemon *end) {
			s.inService("virtnwfilterd")
			says(t, client, daemon, identityOf(alice, aliceGroup), false)
			client.say(t, again)
			client.refusedWith(t, again, onlyOnce)
		}, nobody},
		{"root says so twice", fromRoot, func(t *testing.T, s *stage, client, daemon *end) {
			says(t, client, daemon, identityOf(alice, aliceGroup), true)
			client.say(t, again)
			client.refusedWith(t, again, onlyOnce)
		}, viaUnknown},
		{"a call was decided before", fromRoot, func(t *testing.T, s *stage, client, daemon *end) {
			s.callerOf(client, daemon)
			client.say(t, again)
			client.refusedWith(t, again, onlyOnce)
		}, direct},
		{"another gate has decided a call before", fromRoot, func(t *testing.T, s *stage, client, daemon *end) {
			s.callerOf(client, daemon)
			s.handOver()
			client.say(t, again)
			client.refusedWith(t, again, onlyOnce)
		}, direct},
		{"it cannot be read", fromRoot, func(t *testing.T, s *stage, client, daemon *end) {
			client.say(t, nonsense)
			client.refusedWith(t, nonsense, unreadable)
		}, direct},
		{"a daemon of libvirt's says nothing", fromRoot, func(t *testing.T, s *stage, client, daemon *end) {
			s.inService("virtnwfilterd")
		}, nobody},
		{"a daemon of libvirt's says nothing, and another gate takes over", fromRoot, func(t *testing.T, s *stage, client, daemon *end) {
			s.inService("virtnwfilterd")
			s.handOver()
		}, nobody},
	} {
		t.Run(tt.why, func(t *testing.T) {
			s := newStage(t, tt.change)
			client, daemon := s.connect()
			tt.do(t, s, client, daemon)
			got := s.callerOf(client, daemon)
			ignored := []string{}
			if tt.want.Via == "" { // the names are this machine's
				ignored = []string{"User", "Groups", "LoginUID", "Unit", "Executable"}
			}
			if diff := cmp.Diff(tt.want, got, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(policy.Caller{}, ignored...)); diff != "" {
				t.Error(diff)
			}
			untouched(t, client, daemon)
		})
	}
}

// refusedWith waits for the error that answers a call, and compares its text.
func (e *end) refusedWith(t *testing.T, to message, want string) {
	t.Helper()
	if got := e.refused(t, to).Message; !strings.HasPrefix(got, want) {
		t.Fatalf("it is refused with %q, want %q", got, want)
	}
}

// A client that does not wait for the answer to its identity would be decided about as the peer.
func TestNoCallIsDecidedBeforeItIsKnownWhoseItIs(t *testing.T) {
	t.Parallel()
	s := newStage(t, fromRoot)
	client, daemon := s.connect()
	identity, call := identityOf(alice, aliceGroup), about(suspend, ordinary)
	client.say(t, identity)
	client.say(t, call)
	if got := daemon.next(t); got.Procedure != setIdentity {
		t.Fatalf("%+v reaches libvirtd", got.Header)
	}
	client.refusedWith(t, call, "stopguard: fault: DOMAIN_SUSPEND: libvirtd has not answered yet who the client is")
	s.busy("libvirtd has not answered who its client is")
	daemon.say(t, message{Header: wire.Header{Procedure: setIdentity, Serial: identity.Serial, Kind: wire.Reply}})
	client.next(t)
	if diff := cmp.Diff(viaUnknown, s.callerOf(client, daemon)); diff != "" {
		t.Error(diff)
	}
}

// libvirtd answers other calls with the serial of an identity, too.
func TestOnlyTheAnswerToTheIdentityCounts(t *testing.T) {
	t.Parallel()
	s := newStage(t, fromRoot)
	client, daemon := s.connect()
	identity := identityOf(alice, aliceGroup)
	client.say(t, identity)
	daemon.next(t)
	for _, h := range []wire.Header{
		{Procedure: getLibVersion, Serial: identity.Serial, Kind: wire.Reply},
		{Procedure: setIdentity, Serial: identity.Serial + 1, Kind: wire.Reply},
		{Procedure: setIdentity, Serial: identity.Serial, Kind: wire.Message},
		{Program: 0x20008087, Version: 1, Procedure: setIdentity, Serial: identity.Serial, Kind: wire.Reply},
		{Procedure: setIdentity, Serial: identity.Serial, Kind: wire.Reply, Status: wire.Failed},
		{Procedure: setIdentity, Serial: identity.Serial, Kind: wire.Reply}, // the second
	} {
		daemon.say(t, message{Header: h})
		client.next(t)
	}
	if got := s.callerOf(client, daemon); got.UID != os.Getuid() || got.Via != "" {
		t.Errorf("the caller is %+v", got)
	}
}
