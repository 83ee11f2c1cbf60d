package agent

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stopguard/stopguard/internal/hostpath"
	"github.com/stopguard/stopguard/internal/notify"
	"github.com/stopguard/stopguard/internal/notify/notifystats"
	"github.com/stopguard/stopguard/policy/hold"
	"github.com/stopguard/stopguard/policy/ticket"
)

// A collector collects the agent's state at the moment of a scrape.
type collector struct{ agent *agent }

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	descReady     = describe("stopguard_ready", "Whether decisions can be made: 1, or 0 if every one is a fault.")
	descBundles   = describe("stopguard_bundles", "Bundles that decide now; 0 if only the built-in rules and the host's own files do.")
	descBundle    = describe("stopguard_bundle_info", "A bundle that decides now, with its revision.", "bundle", "revision")
	descActivated = describe("stopguard_bundle_activated_timestamp_seconds", "When the bundle that decides now was activated.", "bundle")
	descContact   = describe("stopguard_bundle_contact_timestamp_seconds", "When the bundle's server last answered.", "bundle")
	descBuffer    = describe("stopguard_decision_log_buffered", "What waits to be sent to the decision log: bytes, or events with buffer_type event.", "unit")
	descQueue     = describe("stopguard_decision_log_queue", "Decisions that wait to get into the decision log's buffer.")
	descOPA       = describe("stopguard_opa_events_total", "What OPA's plugins count, such as dropped and sent parts of the decision log.", "event")
	descElsewhere = describe("stopguard_daemon_elsewhere", "Whether libvirt's daemon runs in another PID namespace: 1, and the agent cannot tell which guests are gone, or 0.")
	descOff       = describe("stopguard_hook_off", "Whether the host's hook file is not executable: 1, and the hook refuses nothing, or 0. Absent if there is no hook file.")
	descMonitored = describe("stopguard_monitored", "1 for each entry of data.site.monitor: a rule, or * for all, whose reasons are recorded and refuse nothing.", "rule")
	descTickets   = describe("stopguard_tickets_open", "Tickets that still permit something.")
	descHolds     = describe("stopguard_holds", "Holds on domains: programs that work on one, and keep it from being stopped.")
	descEscapes   = describe("stopguard_escapes_last_day", "Escapes in the host's record of the last 24 hours, also those that a hook recorded without the agent.")
	descMarks     = describe("stopguard_marks_gone", "Protection marks that were seen on domains, would still be in force, and are gone.")
)

func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descReady, descBundles, descBundle, descActivated, descContact, descBuffer, descQueue, descOPA, descElsewhere, descOff, descMonitored, descTickets, descHolds, descEscapes, descMarks} {
		ch <- d
	}
	c.notifications().Describe(ch)
}

func (c collector) notifications() notifystats.Collector {
	return notifystats.New("stopguard", func() notify.Stats { return c.agent.notifyStats() })
}

func (c collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	c.collectBundles(gauge)
	c.collectPlugins(gauge, ch)
	c.collectHost(gauge)
	c.notifications().Collect(ch)
}

// collectBundles collects the active bundles and the state of the engine.
func (c collector) collectBundles(gauge func(*prometheus.Desc, float64, ...string)) {
	g := c.agent.bundles.Current()
	gauge(descReady, asNumber(g.Err == nil))
	gauge(descBundles, float64(len(g.Bundles)))
	for _, b := range g.Bundles {
		gauge(descBundle, 1, b.Name, strings.ToValidUTF8(b.Revision, "?"))
		gauge(descActivated, float64(b.Activated.Unix()), b.Name)
	}
	if g.Engine != nil {
		for _, rule := range g.Engine.Monitored() {
			gauge(descMonitored, 1, rule)
		}
	}
}

// collectPlugins collects the counters of OPA's plugins and of the decision log.
func (c collector) collectPlugins(gauge func(*prometheus.Desc, float64, ...string), ch chan<- prometheus.Metric) {
	p := c.agent.plane.Load()
	for name, at := range p.contacts() {
		gauge(descContact, float64(at.UnixMilli())/1000, name)
	}
	if plugin := p.logsPlugin(); plugin != nil {
		kind, size := plugin.BufferSize()
		unit := "bytes"
		if kind == "event" {
			unit = "events"
		}
		gauge(descBuffer, float64(size), unit)
	}
	gauge(descQueue, float64(len(c.agent.log.events)))
	for name, value := range p.counters.All() {
		event, isCounter := strings.CutPrefix(name, "counter_")
		if n, ok := value.(uint64); ok && isCounter {
			ch <- prometheus.MustNewConstMetric(descOPA, prometheus.CounterValue, float64(n), event)
		}
	}
}

// collectHost collects the state of the host's guard. A number that cannot be read is left out.
func (c collector) collectHost(gauge func(*prometheus.Desc, float64, ...string)) {
	gauge(descElsewhere, asNumber(c.agent.elsewhere.Load()))
	if hook, err := os.Stat(filepath.Join("/", c.agent.root, hostpath.Hook)); err == nil {
		gauge(descOff, asNumber(hook.Mode()&0o111 == 0))
	}
	open := 0
	tickets, _ := ticket.Store{Root: c.agent.root}.List(time.Now()) // an unreadable ticket permits nothing
	for _, t := range tickets {
		if t.State == ticket.Open {
			open++
		}
	}
	gauge(descTickets, float64(open))
	if holds, err := (hold.Store{Root: c.agent.root}).All(time.Now()); err == nil {
		held := 0
		for _, some := range holds {
			held += len(some)
		}
		gauge(descHolds, float64(held))
	}
	if escapes, err := c.agent.escapes.Since(time.Now().Add(-24 * time.Hour)); err == nil {
		gauge(descEscapes, float64(escapes))
	}
	if gone, err := c.agent.marks.gone(); err == nil {
		gauge(descMarks, float64(gone))
	}
}

// asNumber returns 1 for true and 0 for false.
func asNumber(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
