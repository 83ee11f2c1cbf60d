// Package agent answers, on one host, whether a domain may be stopped. It pulls bundles of policy
// from a control plane, decides by them, and sends its decisions to one. It uses OPA's own bundles,
// discovery, decision logs and status.
package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/open-policy-agent/opa/v1/logging"
	"github.com/open-policy-agent/opa/v1/plugins/logs"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"

	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/agent/bundles"
	"github.com/stopguard/stopguard/internal/fleet"
	"github.com/stopguard/stopguard/internal/notify"
	"github.com/stopguard/stopguard/internal/problem"
)

// An agent is the whole program: the bundles, the control plane that they come from, and the
// servers that answer requests.
type agent struct {
	root    string
	logger  logging.Logger
	config  configuration
	bundles *bundles.Store
	plane   atomic.Pointer[controlPlane]
	metrics *metrics
	log     *decisionLog
	marks   *marks
	escapes *notify.Escapes
	fleet   *fleet.Fleet // nil if the host does not take part in a fleet

	notifier atomic.Pointer[notify.Notifier] // nil before run

	elsewhere atomic.Bool // libvirt's daemon runs in another PID namespace

	servers []*http.Server
	failed  chan error
}

// newAgent reads the configuration and the persisted bundles. Requests are answered only after run
// is called.
func newAgent(ctx context.Context, root string, logger logging.Logger) (*agent, error) {
	config, err := readConfiguration(root)
	if err != nil {
		return nil, err
	}
	a := &agent{
		root: root, logger: logger, config: config,
		metrics: newMetrics(), marks: &marks{root: root}, escapes: &notify.Escapes{Root: root}, failed: make(chan error, 2),
	}
	if a.bundles, err = bundles.Open(ctx, root, config.Config, logger); err != nil {
		return nil, err
	}
	p, err := newControlPlane(root, config, a.bundles, logger, a.metrics)
	if err != nil {
		return nil, err
	}
	a.plane.Store(p)
	a.log = newDecisionLog(func() *logs.Plugin { return a.plane.Load().logsPlugin() }, a.metrics)
	a.metrics.registry.MustRegister(collector{a})
	return a, nil
}

// run answers until ctx ends. Each value from reload makes it read the configuration again. The
// caller stops the agent.
func (a *agent) run(ctx context.Context, reload <-chan struct{}) error {
	if err := a.joinFleet(ctx); err != nil {
		return err
	}
	if err := a.listen(); err != nil {
		return err
	}
	if err := a.plane.Load().start(ctx); err != nil {
		return err
	}
	a.startNotifier()
	notifySystemd(a.logger, daemon.SdNotifyReady)
	a.logger.Info("answering on %s", a.config.settings.Socket)
	a.lookForDaemon()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go watchdog(ctx, a.logger, a.socketPath())
	go a.board(ctx).Serve(ctx, func(err error) { a.logger.Error("tickets cannot be approved: %v", err) })
	tick := time.NewTicker(hostPace)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			notifySystemd(a.logger, daemon.SdNotifyStopping)
			return nil
		case err := <-a.failed:
			return err
		case <-reload:
			notifySystemd(a.logger, daemon.SdNotifyReloading)
			err := a.reload(ctx)
			a.metrics.reloaded(err)
			if err != nil {
				a.logger.Error("the configuration is not reloaded, the old one stays: %v", err)
			}
			notifySystemd(a.logger, daemon.SdNotifyReady)
		case <-tick.C:
			a.bundles.Refresh(ctx)
			a.lookForDaemon()
		}
	}
}

// daemonElsewhere is the error, in the log and in the health, of an agent that cannot see guests'
// processes.
const daemonElsewhere = "libvirt's daemon runs in another PID namespace, so the agent cannot tell which guests are gone and refuses the stop of dead ones; run it in the host's PID namespace"

// lookForDaemon notes whether libvirt's daemon is in another PID namespace, and logs when that
// changes.
func (a *agent) lookForDaemon() {
	isElsewhere := hookproto.Host{Root: a.root}.IsDaemonElsewhere()
	if a.elsewhere.Swap(isElsewhere) == isElsewhere {
		return
	}
	if isElsewhere {
		a.logger.Error(daemonElsewhere)
	} else {
		a.logger.Info("libvirt's daemon is visible")
	}
}

// hostPace is how often the agent checks the host's own files for requests that do not wait for
// that.
const hostPace = time.Second

func (a *agent) socketPath() string { return filepath.Join("/", a.root, a.config.settings.Socket) }

// listen opens the sockets.
func (a *agent) listen() error {
	local, remote := http.NewServeMux(), http.NewServeMux()
	api := newAPI(a.root, a.bundles, a.metrics, a.log)
	both := prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		return prometheus.Gatherers{a.metrics.registry, a.plane.Load().registry}.Gather()
	})
	metrics := promhttp.HandlerFor(both, promhttp.HandlerOpts{ErrorLog: promLogger{a.logger}})
	for _, mux := range []*http.ServeMux{local, remote} {
		mux.HandleFunc(decisionPath, api.decide)
		mux.HandleFunc("GET /health", a.health)
		mux.Handle("GET /metrics", metrics)
		mux.HandleFunc("/", missing)
	}
	a.mountHook(local)
	a.mountFleet(local)
	type opened struct {
		s *http.Server
		l net.Listener
	}
	var all []opened
	s, l, err := serveSocket(a.socketPath(), local)
	if err != nil {
		return err
	}
	all = append(all, opened{s, l})
	if c := a.config.settings.Listen; c != nil {
		if s, l, err = serveTCP(a.root, c, remote, http.HandlerFunc(a.briefHealth), a.metrics.refused.WithLabelValues("connection").Inc); err != nil {
			all[0].l.Close()
			return err
		}
		all = append(all, opened{s, l})
	}
	for _, o := range all {
		o.s.Handler = a.metrics.countRefused(o.s.Handler)
		a.servers = append(a.servers, o.s)
		go listenOn(o.s, o.l, a.failed)
	}
	return nil
}

// reload reads the configuration again, and restarts the plugins if it has changed. The active
// bundles stay.
func (a *agent) reload(ctx context.Context) error {
	a.bundles.Refresh(ctx)
	config, err := readConfiguration(a.root)
	if err != nil {
		return err
	}
	switch {
	case !reflect.DeepEqual(config.settings, a.config.settings):
		return errors.New("the section stopguard has changed; restart the agent")
	case config.Folder != a.config.Folder:
		return errors.New("persistence_directory has changed; restart the agent")
	case !reflect.DeepEqual(config.Keys, a.config.Keys):
		return errors.New("keys have changed, by which everything that is active was verified; restart the agent")
	case reflect.DeepEqual(config.boot, a.config.boot):
		return nil
	}
	next, err := newControlPlane(a.root, config, a.bundles, a.logger, a.metrics)
	if err != nil {
		return err
	}
	last := a.plane.Load()
	last.stop()
	a.plane.Store(next)
	if err := next.start(ctx); err != nil {
		next.stop()
		return fmt.Errorf("the plugins do not start: %w", err)
	}
	a.config = config // only now; otherwise a reload after a failure would find nothing to do
	a.logger.Info("the configuration was reloaded")
	return nil
}

// stop stops the servers first, and then sends the rest of the decision log. Each step is bounded.
func (a *agent) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	for _, s := range a.servers {
		if err := s.Shutdown(ctx); err != nil {
			s.Close()
		}
	}
	if a.fleet != nil {
		if err := a.fleet.Close(); err != nil {
			a.logger.Warn("fleet: %s", problem.OneLine(err.Error()))
		}
	}
	if n := a.notifier.Load(); n != nil {
		n.Stop(0)
	}
	a.log.close(ctx)
	a.plane.Load().stop()
}

// promLogger logs the errors of the metrics' handler.
type promLogger struct{ logging.Logger }

func (l promLogger) Println(v ...any) { l.Error("%s", fmt.Sprint(v...)) }
