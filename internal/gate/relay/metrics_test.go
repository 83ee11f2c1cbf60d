package relay

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/stopguard/stopguard/internal/gate/call"
	"github.com/stopguard/stopguard/internal/gate/wire"
)

// counted returns what is not 0, as NAME{LABELS}; of a histogram, how many it has.
func counted(t *testing.T, r *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := r.Gather()
	must(t, err)
	all := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetValue())
			}
			n := m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			if n != 0 {
				all[fmt.Sprintf("%s{%s}", strings.TrimPrefix(family.GetName(), "stopguard_gate_"), strings.Join(labels, ","))] = n
			}
		}
	}
	return all
}

func TestWhatBecomesOfCallsIsCounted(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	var off atomic.Bool
	s := newStage(t, func(g *Gate) {
		g.Metrics = NewMetrics(registry)
		g.Off = func() bool { return off.Load() }
	})
	client, daemon := s.connect()
	before := counted(t, registry)["passed_calls_total{}"]

	client.say(t, about(suspend, protected))
	daemon.answerXML(t)
	client.vetoed(t, about(suspend, protected))
	client.say(t, about(suspend, ordinary))
	daemon.answerXML(t)
	daemon.next(t)
	client.say(t, about(suspend, absent))
	daemon.reply(t, daemon.question(t))
	client.refused(t, about(suspend, absent))
	client.say(t, message{Header: about(setIdentity, absent).Header})
	client.refused(t, message{Header: about(setIdentity, absent).Header})
	client.say(t, about(getLibVersion, ordinary))
	daemon.next(t)
	unknown := about(9999, ordinary)
	unknown.Program, unknown.Version = call.Remote, 1
	client.say(t, unknown)
	daemon.next(t)
	off.Store(true)
	client.say(t, about(suspend, protected))
	daemon.next(t)

	want := map[string]float64{
		"clients{}":                    1,
		"passed_calls_total{}":         before + 2,
		"unknown_calls_total{}":        1,
		"off_calls_total{}":            1,
		"held_calls_total{veto}":       2, // one of them needs no decision
		"held_calls_total{passed}":     1,
		"held_calls_total{libvirt}":    1,
		"decisions_total{pause,veto}":  1,
		"decisions_total{pause,allow}": 1,
		"vetoes_total{pause,test}":     1,
		"held_seconds{}":               4,
		"fetch_seconds{}":              3,
	}
	waitFor(t, func() bool { return counted(t, registry)["held_seconds{}"] == 4 })
	if diff := cmp.Diff(want, counted(t, registry)); diff != "" {
		t.Error(diff)
	}
}

func TestALibvirtdThatCannotBeReachedIsCounted(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	s := newStage(t, func(g *Gate) { g.Metrics = NewMetrics(registry) })
	must(t, s.daemon.Close())
	client := newEnd(t, s.dial(), wire.FromServer())
	client.say(t, message{Header: about(66, ordinary).Header})
	client.next(t)
	if n := counted(t, registry)["upstream_failures_total{}"]; n != 1 {
		t.Errorf("%v failures are counted", n)
	}
}
