package relay

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/internal/gate/call"
	"github.com/stopguard/stopguard/internal/gate/wire"
	"github.com/stopguard/stopguard/policy"
)

const (
	createWithFlags = 196
	autodestroyFlag = 2
)

// A watched is a gate whose client has started a domain with autodestroy.
type watched struct {
	*stage
	client, daemon *end
	protected      atomic.Bool // whether the domain is
	ended          chan string // the domains that were reported
	log            *lockedBuffer
	metrics        *prometheus.Registry
}

type lockedBuffer struct {
	sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.Lock()
	defer b.Unlock()
	return b.Buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.Lock()
	defer b.Unlock()
	return b.Buffer.String()
}

// watch has a client start a domain with autodestroy. libvirtd sends the messages before its
// answer, with the serial of the start.
func watch(t *testing.T, pace time.Duration, status wire.Status, before ...message) *watched {
	t.Helper()
	w := &watched{ended: make(chan string, 10), log: &lockedBuffer{}, metrics: prometheus.NewRegistry()}
	w.stage = newStage(t, func(g *Gate) {
		g.watchPace = pace
		g.StatusXML = func(string) ([]byte, error) { return []byte(xmlOf(ordinary)), nil }
		g.Metrics = NewMetrics(w.metrics)
		g.Log = slog.New(slog.NewTextHandler(w.log, nil))
		g.Protected = func(_ context.Context, d *domainxml.Domain) (bool, error) { return w.protected.Load(), nil }
		g.Ended = func(d *domainxml.Domain, caller policy.Caller) { w.ended <- d.UUID }
	})
	w.client, w.daemon = w.connect()
	start := about(createWithFlags, ordinary, autodestroyFlag)
	w.client.say(t, start)
	w.daemon.answerXML(t)
	got := w.daemon.next(t)
	if got.Procedure != createWithFlags {
		t.Fatalf("%+v", got.Header)
	}
	for _, m := range before {
		m.Serial = got.Serial
		w.daemon.say(t, m)
		w.client.next(t)
	}
	answer := message{Header: got.Header}
	answer.Kind, answer.Status = wire.Reply, status
	answer.payload = (&wire.Error{Code: wire.CodeInvalid, Message: "it does not start"}).AppendPayload(nil)
	if status == wire.OK {
		payload, err := wire.AppendDomain(nil, "web-01", ordinary)
		must(t, err)
		answer.payload = payload
	}
	w.daemon.say(t, answer)
	w.client.next(t)
	return w
}

// answer has libvirtd answer the gate's questions from now on.
func (w *watched) answer() {
	daemon := w.daemon
	go func() {
		for m := range daemon.messages {
			if m.Procedure == domainXML {
				answer := message{Header: m.Header, payload: wire.AppendString(nil, xmlOf(ordinary))}
				answer.Kind = wire.Reply
				_ = daemon.Send(answer.frame(), nil)
			}
		}
	}()
}

func (w *watched) until(what string, is func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("not seen: %s\n%s", what, w.log.String())
		}
	}
}

// shows reports whether the metrics have the domain as protected or not; "" is for not at all.
func (w *watched) shows(protected string) bool {
	families, err := w.metrics.Gather()
	must(w.t, err)
	shown := ""
	for _, f := range families {
		if f.GetName() != "stopguard_gate_autodestroy" {
			continue
		}
		for _, m := range f.Metric {
			labels := map[string]string{}
			for _, l := range m.Label {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["domain"] != "web-01" || labels["uuid"] != ordinary {
				w.t.Fatalf("%v", labels)
			}
			shown += labels["protected"]
		}
	}
	return shown == protected
}

// A client may call a procedure of another program with the number and the serial of its start.
func TestAnAnswerOfAnotherProgramDoesNotHideADomainWithAutodestroy(t *testing.T) {
	t.Parallel()
	w := watch(t, 5*time.Millisecond, wire.OK, message{
		Header:  wire.Header{Program: call.QEMU, Version: 1, Procedure: createWithFlags, Kind: wire.Reply, Status: wire.Failed},
		payload: (&wire.Error{Code: wire.CodeRPC, Message: "unknown procedure"}).AppendPayload(nil),
	})
	w.answer()
	w.until("that it ends with the connection", func() bool { return w.shows("false") })
}

func TestADomainThatIsProtectedAfterAStartWithAutodestroyIsSeen(t *testing.T) {
	t.Parallel()
	w := watch(t, 5*time.Millisecond, wire.OK)
	w.answer()
	w.until("that it ends with the connection", func() bool { return w.shows("false") })
	w.protected.Store(true)
	w.until("that it is protected", func() bool { return w.shows("true") })
	if n := strings.Count(w.log.String(), "a protected domain ends when its client's connection closes"); n != 1 {
		t.Errorf("it is logged %d times", n)
	}
	_ = w.client.conn.Close()
	select {
	case uuid := <-w.ended:
		if uuid != ordinary {
			t.Error(uuid)
		}
	case <-time.After(patience):
		t.Fatal("its end is not reported")
	}
	w.until("that it is gone", func() bool { return w.shows("") })
	if !strings.Contains(w.log.String(), "a protected domain is ended by libvirtd") {
		t.Error(w.log.String())
	}
}

// A look that ends after the connection has must not show the domain once more.
func TestADomainThatIsLostWhileItIsLookedAtIsNotShown(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	m, d := NewMetrics(registry), AutoDomain{Name: "web-01", UUID: ordinary, Protected: true}
	a := &autodestroy{}
	a.add(d)
	a.update(ordinary, &d, m)
	w := &watched{stage: &stage{t: t}, metrics: registry}
	if !w.shows("true") {
		t.Error("it is not shown")
	}
	if lost := a.lose(m); !slices.Equal(lost, []AutoDomain{d}) {
		t.Errorf("%v are lost", lost)
	}
	a.update(ordinary, &d, m)
	if !w.shows("") {
		t.Error("it is shown after it was lost")
	}
}

func TestWhetherADomainIsLostIsAskedWhenItIsLost(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		why       string
		change    func(w *watched)
		protected bool
		status    wire.Status
		end       func(w *watched)
		want      bool
	}{
		{why: "protected since the last look", protected: true, end: func(w *watched) { _ = w.client.conn.Close() }, want: true},
		{why: "another program has taken over", change: func(w *watched) {
			w.handOver()
		}, protected: true, end: func(w *watched) { _ = w.client.conn.Close() }, want: true},
		{why: "the gate ends, and with it all connections", protected: true, end: func(w *watched) { w.end() }, want: true},
		{why: "it is not protected", end: func(w *watched) { _ = w.client.conn.Close() }},
		{why: "it did not start", status: wire.Failed, protected: true, end: func(w *watched) { _ = w.client.conn.Close() }},
		{why: "libvirtd has ended, and the domain may live on", protected: true, end: func(w *watched) { _ = w.daemon.conn.Close() }},
	} {
		t.Run(tt.why, func(t *testing.T) {
			w := watch(t, time.Hour, tt.status)
			if tt.change != nil {
				tt.change(w)
			}
			w.answer()
			w.protected.Store(tt.protected)
			tt.end(w)
			w.client.closed(t)
			w.stage.end()
			if got := len(w.ended) == 1; got != tt.want {
				t.Errorf("it is reported: %v\n%s", got, w.log.String())
			}
		})
	}
}

// closed waits until the connection of a client has ended, whichever side has ended it.
func (e *end) closed(t *testing.T) {
	t.Helper()
	for {
		select {
		case _, ok := <-e.messages:
			if !ok {
				return
			}
		case <-time.After(patience):
			t.Fatal("the connection does not end")
		}
	}
}
