package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"sync"
	"time"

	"github.com/open-policy-agent/opa/v1/config"
	"github.com/open-policy-agent/opa/v1/hooks"
	"github.com/open-policy-agent/opa/v1/logging"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/plugins"
	opabundle "github.com/open-policy-agent/opa/v1/plugins/bundle"
	"github.com/open-policy-agent/opa/v1/plugins/discovery"
	"github.com/open-policy-agent/opa/v1/plugins/logs"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/tracing"
	"github.com/prometheus/client_golang/prometheus"
)

// A plane is the agent's side of the control plane: OPA's own plugins, as one configuration has them.
type plane struct {
	root     string
	keep     *keep
	log      logging.Logger
	watch    *measures
	manager  *plugins.Manager
	store    storage.Store
	archives *archives
	counters metrics.Metrics      // OPA's, of decision logs and status
	registry *prometheus.Registry // what OPA's status plugin registers
	cancel   context.CancelFunc

	mu        sync.Mutex
	contacted map[string]time.Time // when a bundle's server last answered
}

// newPlane reads the configuration with OPA's plugins and starts nothing.
func newPlane(root string, c configuration, k *keep, log logging.Logger, watch *measures) (*plane, error) {
	p := &plane{
		root: root, keep: k, log: log, watch: watch,
		store: inmem.New(), archives: &archives{}, counters: metrics.New(), registry: prometheus.NewRegistry(),
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

// withDiscovered gives the configuration with what was discovered last, so that its bundles and services are known before
// its server answers.
func (p *plane) withDiscovered(boot map[string]any) map[string]any {
	content, err := p.keep.folder.ReadDiscovered()
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

func (p *plane) make(boot map[string]any, c configuration) error {
	content, err := json.Marshal(boot)
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("the host's name cannot be read: %w; set it", err)
	}
	guard := tamer{keys: len(c.Keys) > 0}
	p.manager, err = plugins.New(content, host, p.store,
		plugins.Logger(p.log),
		plugins.ConsoleLogger(p.log),
		plugins.WithHooks(hooks.New(guard)),
		plugins.WithDistributedTracingOpts(tracing.NewOptions(p.archives)),
		plugins.WithPrometheusRegister(p.registry),
		plugins.GracefulShutdownPeriod(int(stopTime/time.Second)),
	)
	if err != nil {
		return fmt.Errorf("%s; correct the configuration", oneLine(err))
	}
	d, err := discovery.New(p.manager,
		discovery.Metrics(p.counters),
		discovery.Hooks(hooks.New(guard)),
		discovery.BootConfig(c.boot))
	if err != nil {
		p.manager.Stop(context.Background())
		return fmt.Errorf("%s; correct the configuration", oneLine(err))
	}
	p.manager.Register(discovery.Name, d)
	if c.boot["discovery"] != nil {
		d.RegisterListener(activatorID, func(s opabundle.Status) { p.discovered(s) })
	}
	return nil
}

// A tamer looks at each configuration before OPA uses it.
type tamer struct{ keys bool }

// OnConfig is for the configuration that was written.
func (t tamer) OnConfig(_ context.Context, c *config.Config) (*config.Config, error) {
	return tamed(c, t.keys)
}

// OnConfigDiscovery is for one that was discovered. Who sends it does not say who may sign.
func (t tamer) OnConfigDiscovery(_ context.Context, c *config.Config) (*config.Config, error) {
	switch {
	case len(c.Keys) > 0:
		return nil, errors.New("keys may not be discovered; write them into the agent's own configuration")
	case c.PersistenceDirectory != nil:
		return nil, errors.New("persistence_directory may not be discovered; write it into the agent's own configuration")
	}
	return tamed(c, t.keys)
}

// stopTime is how long the plugins may take to stop, and to send what they have.
const stopTime = 5 * time.Second

// start starts the plugins. It waits for no server.
func (p *plane) start(ctx context.Context) error {
	activators.add(p.store, p)
	if err := p.manager.Start(ctx); err != nil {
		p.stop()
		return fmt.Errorf("%s; correct the configuration", oneLine(err))
	}
	ctx, p.cancel = context.WithCancel(context.Background())
	go p.watchLocal(ctx)
	if len(p.manager.GetConfig().Discovery) == 0 {
		return p.retain()
	}
	return nil
}

func (p *plane) stop() {
	if p.cancel != nil {
		p.cancel()
	}
	p.manager.Stop(context.Background())
	activators.remove(p.store)
}

func (p *plane) bundlePlugin() *opabundle.Plugin { return opabundle.Lookup(p.manager) }
func (p *plane) logsPlugin() *logs.Plugin        { return logs.Lookup(p.manager) }

// configured are the names of the bundles that there should be.
func (p *plane) configured() []string {
	var names []string
	if plugin := p.bundlePlugin(); plugin != nil {
		for name := range plugin.Config().Bundles {
			names = append(names, name)
		}
	}
	return names
}

// listen hears of each answer of a bundle's server.
func (p *plane) listen(plugin *opabundle.Plugin) {
	plugin.RegisterBulkListener(activatorID, func(all map[string]*opabundle.Status) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.contacted = map[string]time.Time{}
		for name, s := range all {
			if !s.LastSuccessfulRequest.IsZero() {
				p.contacted[name] = s.LastSuccessfulRequest
			}
		}
	})
}

// contacts says when the bundles' servers last answered.
func (p *plane) contacts() map[string]time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.contacted)
}

func (p *plane) retain() error { return p.keep.retain(context.Background(), p.configured()) }

// discovered keeps a configuration that OPA has just applied, for the next start, and drops the bundles that it does not
// name any more.
func (p *plane) discovered(s opabundle.Status) {
	if len(s.Errors) > 0 || s.Code != "" || s.LastSuccessfulActivation.IsZero() {
		return
	}
	content, err := json.Marshal(p.manager.GetConfig())
	if err == nil {
		err = p.keep.folder.WriteDiscovered(content)
	}
	if err != nil {
		p.log.Error("what was discovered cannot be kept for the next start: %v", err)
	}
	if err := p.retain(); err != nil {
		p.log.Error("%v", err)
	}
}
