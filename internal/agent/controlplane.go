package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/open-policy-agent/opa/v1/config"
	"github.com/open-policy-agent/opa/v1/hooks"
	"github.com/open-policy-agent/opa/v1/logging"
	opametrics "github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/plugins"
	opabundle "github.com/open-policy-agent/opa/v1/plugins/bundle"
	"github.com/open-policy-agent/opa/v1/plugins/discovery"
	"github.com/open-policy-agent/opa/v1/plugins/logs"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/tracing"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/stopguard/stopguard/internal/agent/bundles"
	"github.com/stopguard/stopguard/internal/persisted"
	"github.com/stopguard/stopguard/internal/problem"
)

// A controlPlane runs OPA's own plugins with one configuration: the agent's side of a control
// plane.
type controlPlane struct {
	root     string
	bundles  *bundles.Store
	folder   persisted.Folder // has the last discovered configuration
	log      logging.Logger
	metrics  *metrics
	manager  *plugins.Manager
	store    storage.Store
	archives *archives
	counters opametrics.Metrics   // OPA's, of decision logs and status
	registry *prometheus.Registry // has the metrics of OPA's status plugin
	started  bool
	cancel   context.CancelFunc

	listening bool // set by start, and later only by watchLocal

	mu        sync.Mutex           // guards the following
	contacted map[string]time.Time // when a bundle's server last answered
	failures  map[string]string    // by bundle: the error of the last one that its server sent
}

// newControlPlane reads the configuration with OPA's plugins and starts nothing.
func newControlPlane(root string, c configuration, s *bundles.Store, log logging.Logger, m *metrics) (*controlPlane, error) {
	p := &controlPlane{
		root: root, bundles: s, folder: c.Folder, log: log, metrics: m,
		store: inmem.New(), archives: &archives{}, counters: opametrics.New(), registry: prometheus.NewRegistry(),
	}
	boot := c.boot
	if _, discovers := boot["discovery"]; discovers {
		boot = p.withDiscovered(boot)
	}
	err := p.make(boot, c)
	if err != nil && len(boot) != len(c.boot) {
		log.Error("what was discovered last cannot be used: %v; the server is asked anew", err)
		err = p.make(c.boot, c)
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

// withDiscovered returns the configuration merged with the last discovered one. So its bundles and
// services are known before its server answers.
func (p *controlPlane) withDiscovered(boot map[string]any) map[string]any {
	content, err := p.folder.ReadDiscovered()
	if errors.Is(err, fs.ErrNotExist) {
		return boot
	}
	var discovered map[string]any
	if err == nil {
		err = json.Unmarshal(content, &discovered)
	}
	if err != nil {
		p.log.Error("what was discovered last cannot be read: %v; the server is asked anew", err)
		return boot
	}
	return merge(discovered, boot)
}

func (p *controlPlane) make(boot map[string]any, c configuration) error {
	content, err := json.Marshal(boot)
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("the host's name cannot be read: %w; set it", err)
	}
	guard := configValidator{keys: len(c.Keys) > 0}
	p.manager, err = plugins.New(content, host, p.store,
		plugins.Logger(p.log),
		plugins.ConsoleLogger(p.log),
		plugins.WithHooks(hooks.New(guard)),
		plugins.WithDistributedTracingOpts(tracing.NewOptions(p.archives)),
		plugins.WithPrometheusRegister(p.registry),
		plugins.GracefulShutdownPeriod(int(stopTime/time.Second)),
	)
	if err != nil {
		return fmt.Errorf("%s; correct the configuration", problem.OneLine(err.Error()))
	}
	d, err := discovery.New(p.manager,
		discovery.Metrics(p.counters),
		discovery.Hooks(hooks.New(guard)),
		discovery.BootConfig(c.boot))
	if err != nil { // nothing is started yet, so nothing is stopped
		return fmt.Errorf("%s; correct the configuration", problem.OneLine(err.Error()))
	}
	p.manager.Register(discovery.Name, d)
	if c.boot["discovery"] != nil {
		d.RegisterListener(activatorID, func(s opabundle.Status) { p.discovered(s) })
	}
	return nil
}

// A configValidator validates each configuration before OPA uses it.
type configValidator struct{ keys bool }

// OnConfig validates the written configuration.
func (t configValidator) OnConfig(_ context.Context, c *config.Config) (*config.Config, error) {
	return validateConfig(c, t.keys)
}

// OnConfigDiscovery validates a discovered configuration. Its sender may not choose the keys.
func (t configValidator) OnConfigDiscovery(_ context.Context, c *config.Config) (*config.Config, error) {
	switch {
	case len(c.Keys) > 0:
		return nil, errors.New("keys may not be discovered; write them into the agent's own configuration")
	case c.PersistenceDirectory != nil:
		return nil, errors.New("persistence_directory may not be discovered; write it into the agent's own configuration")
	}
	return validateConfig(c, t.keys)
}

// stopTime bounds the time in which the plugins stop and send the rest of their data. stopGrace is
// the additional time for a plugin that exceeds it.
const (
	stopTime  = 5 * time.Second
	stopGrace = 2 * time.Second
)

// start starts the plugins. It does not wait for a server.
func (p *controlPlane) start(ctx context.Context) error {
	activators.add(p.store, p)
	p.listen() // before the plugins start; otherwise the first failure of a bundle would be missed
	p.started = true
	if err := p.manager.Start(ctx); err != nil { // the caller calls stop
		return fmt.Errorf("%s; correct the configuration", problem.OneLine(err.Error()))
	}
	ctx, p.cancel = context.WithCancel(context.Background())
	go p.watchLocal(ctx)
	if len(p.manager.GetConfig().Discovery) == 0 {
		return p.retain()
	}
	return nil
}

// stop stops the plugins, if they were started, within stopTime and stopGrace. Without that limit
// OPA's manager would wait forever for a plugin whose goroutine does not run, as after a start that
// failed halfway.
func (p *controlPlane) stop() {
	if !p.started {
		return
	}
	p.started = false
	if p.cancel != nil {
		p.cancel()
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.manager.Stop(context.Background())
	}()
	select {
	case <-done:
	case <-time.After(stopTime + stopGrace):
		p.log.Error("OPA's plugins did not stop within %v and are left behind", stopTime+stopGrace)
	}
	activators.remove(p.store)
}

func (p *controlPlane) bundlePlugin() *opabundle.Plugin { return opabundle.Lookup(p.manager) }
func (p *controlPlane) logsPlugin() *logs.Plugin        { return logs.Lookup(p.manager) }

// configured returns the names of the bundles in the configuration.
func (p *controlPlane) configured() []string {
	var names []string
	if plugin := p.bundlePlugin(); plugin != nil {
		for name := range plugin.Config().Bundles {
			names = append(names, name)
		}
	}
	return names
}

// listen makes OPA report each attempt to get and activate a bundle. It does nothing while the
// bundle plugin is missing, which may still have to be discovered.
func (p *controlPlane) listen() {
	plugin := p.bundlePlugin()
	if plugin == nil || p.listening {
		return
	}
	p.listening = true
	plugin.Register(activatorID, func(s opabundle.Status) { p.attempted(s) })
}

// attempted records the result of an attempt to get and activate a bundle. An attempt fails if the
// server does not answer. It also fails if the bundle is damaged, not signed as required, or
// refused by a check.
func (p *controlPlane) attempted(s opabundle.Status) {
	if s.Code != "" {
		p.metrics.activated(s.Name, errors.New(s.Message))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.contacted == nil {
		p.contacted, p.failures = map[string]time.Time{}, map[string]string{}
	}
	if !s.LastSuccessfulRequest.IsZero() {
		p.contacted[s.Name] = s.LastSuccessfulRequest
	}
	if delete(p.failures, s.Name); s.Code != "" && !isUnreachable(s) {
		p.failures[s.Name] = statusText(s)
	}
}

// isUnreachable reports whether the server or registry did not send a bundle. It compares OPA's
// text, because OPA does not have a type for this error.
func isUnreachable(s opabundle.Status) bool {
	return s.HTTPCode != "" || strings.HasPrefix(s.Message, "request failed: ") || strings.HasPrefix(s.Message, "failed to pull ")
}

// statusText returns, in one line, the error for which OPA could not get or activate a bundle.
func statusText(s opabundle.Status) string {
	text := s.Message
	for _, err := range s.Errors {
		text += ": " + err.Error()
	}
	return problem.OneLine(text)
}

// failure returns the error for which the last bundle that a server sent was refused, or "".
func (p *controlPlane) failure(bundle string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failures[bundle]
}

// contacts returns the times at which the servers of the configured bundles last answered.
func (p *controlPlane) contacts() map[string]time.Time {
	names := p.configured()
	p.mu.Lock()
	defer p.mu.Unlock()
	contacts := maps.Clone(p.contacted)
	maps.DeleteFunc(contacts, func(name string, _ time.Time) bool { return !slices.Contains(names, name) })
	return contacts
}

func (p *controlPlane) retain() error { return p.bundles.Retain(context.Background(), p.configured()) }

// discovered stores a configuration that OPA has just applied, for the next start. It drops the
// bundles that the configuration no longer names.
func (p *controlPlane) discovered(s opabundle.Status) {
	if len(s.Errors) > 0 || s.Code != "" || s.LastSuccessfulActivation.IsZero() {
		return
	}
	content, err := json.Marshal(p.manager.GetConfig())
	if err == nil {
		err = p.folder.WriteDiscovered(content)
	}
	if err != nil {
		p.log.Error("what was discovered cannot be kept for the next start: %v", err)
	}
	if err := p.retain(); err != nil {
		p.log.Error("%v", err)
	}
}
