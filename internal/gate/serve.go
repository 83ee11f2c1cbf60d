// Package gate is the gate's process: it serves the sockets, reads the options, and hands over to a
// newer program. Package relay does the gate's work on connections.
package gate

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/stopguard/stopguard"
	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/gate/relay"
	"github.com/stopguard/stopguard/internal/hostfile"
	"github.com/stopguard/stopguard/internal/hostpath"
	"github.com/stopguard/stopguard/internal/notify/notifystats"
	"github.com/stopguard/stopguard/policy/hostpolicy"
)

// Main runs the gate with the arguments of its command line, and returns its exit code.
func Main(args []string) int {
	var c settings
	flags := flag.NewFlagSet(args[0], flag.ExitOnError)
	flags.StringVar(&c.listen, "listen", "/run/libvirt/libvirt-sock", "where clients look for libvirtd; not used if systemd gives a socket")
	flags.StringVar(&c.listenRO, "listen-ro", "", "where clients look for its read-only socket; empty for none")
	flags.StringVar(&c.upstream, "upstream", "/run/stopguard-up/libvirt-sock", "where libvirtd listens")
	flags.StringVar(&c.upstreamRO, "upstream-ro", "/run/stopguard-up/libvirt-sock-ro", "where its read-only socket is")
	flags.StringVar(&c.group, "group", "", "the `group` that may connect; empty for everybody, so that libvirtd and polkit decide alone")
	flags.BoolVar(&c.refuseUnknown, "refuse-unknown", false, "refuse calls of a newer libvirt than the gate knows")
	flags.StringVar(&c.metrics, "metrics", "", "a `file` that the metrics are kept in, for node_exporter's textfile collector: its name ends with .prom")
	check := flags.Bool("check", false, "only look whether "+optionsFile+" can be read")
	_ = flags.Parse(args[1:])
	if flags.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "stopguard-gate: %q is not understood; see -help\n", flags.Arg(0))
		return 2
	}
	err := readOptions(hostfile.Root(os.Getenv("STOPGUARD_ROOT")), func(name, value string) error {
		if name == "check" {
			return errors.New("-check is for the command line")
		}
		return flags.Set(name, value)
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "stopguard-gate:", err)
		return 1
	}
	if *check {
		return 0
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, c); err != nil {
		fmt.Fprintln(os.Stderr, "stopguard-gate:", err)
		return 1
	}
	return 0
}

// gcPercent is how much garbage the gate keeps, in percent of the memory in use: half of Go's
// default. Most of that memory belongs to idle clients.
const gcPercent = 50

type settings struct {
	listen, listenRO, upstream, upstreamRO, group, metrics string
	refuseUnknown                                          bool
}

// A socket is a socket of the gate's, with the socket of libvirtd behind it.
type socket struct {
	path, upstream string
	readOnly       bool
	listener       *net.UnixListener
	own            bool // the listener is the gate's own, which removes its file
	gate           *relay.Gate
	taken          []relay.ConnState
}

// stopTimeout is how long a gate that is stopped waits for held calls. They get their decision in 5
// s.
const stopTimeout = 6 * time.Second

// notifyTimeout is how long a gate that is stopped waits until the site's program has the event.
const notifyTimeout = 2 * time.Second

// run serves until ctx is done or something fails.
func run(ctx context.Context, c settings) error {
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	registry := newRegistry()
	config, n := configure(hostfile.Root(os.Getenv("STOPGUARD_ROOT")), registry, c.refuseUnknown)
	sockets := c.sockets()
	previous, err := takeOver(sockets)
	if err != nil {
		return err
	}
	if os.Getenv(checkVariable) != "" {
		_, err := fmt.Print(readyText)
		return err
	}
	if err := open(sockets, previous, c.group); err != nil {
		return err
	}
	n.start()
	defer n.stop(0)
	if previous != nil && previous.Metrics != c.metrics {
		_ = os.Remove(previous.Metrics) // as when a gate ends
	}
	if c.metrics != "" {
		defer keepMetrics(c.metrics, registry)()
	}

	serving, cancel := context.WithCancel(context.Background())
	defer cancel()
	var wait sync.WaitGroup
	failed := make(chan error, len(sockets))
	for i, s := range sockets {
		config.Upstream, config.ReadOnly = s.upstream, s.readOnly
		gate := relay.New(config)
		sockets[i].gate = gate
		wait.Go(func() {
			defer cancel() // the gate does not serve one socket alone
			failed <- gate.Serve(serving, s.listener, s.taken...)
		})
	}
	reportReady(previous)
	wait.Go(func() { runWatchdog(serving) })
	for serving.Err() == nil && ctx.Err() == nil {
		select {
		case <-reload:
			notifySystemd(daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec())
			n.stop(0) // otherwise the next program would inherit the child
			err := handOver(ctx, sockets, c.metrics)
			n.start()
			signal.Notify(reload, syscall.SIGHUP)
			slog.Error("the program goes on that was there before", "error", err)
			notifySystemd(daemon.SdNotifyReady + "\nSTATUS=not reloaded: " + strings.ReplaceAll(err.Error(), "\n", " "))
		case <-serving.Done():
		case <-ctx.Done():
		}
	}
	if serving.Err() == nil { // the gate was told to stop, maybe during a reload
		notifySystemd(daemon.SdNotifyStopping)
		n.tellStop()
		_ = quiesce(serving, sockets, stopTimeout)
		n.stop(notifyTimeout)
	}
	cancel()
	wait.Wait()
	close(failed)
	for e := range failed {
		err = errors.Join(err, e)
	}
	return err
}

// configure returns the configuration that the gates of all sockets share, and the notifier. It
// registers their metrics.
func configure(root hostfile.Root, registry *prometheus.Registry, refuseUnknown bool) (relay.Config, *notifier) {
	decide := stopguard.Config{Root: string(root), Engine: (&hostpolicy.EngineCache{Root: string(root)}).Engine}
	n := &notifier{root: string(root), engine: decide.Engine}
	registry.MustRegister(notifystats.New("stopguard_gate", n.stats))
	guard := autodestroyGuard{decide}
	isOff := func() bool {
		_, err := root.Read(hostpath.GateOff, 1<<10)
		return err == nil
	}
	registerState(registry, isOff)
	return relay.Config{
		Metrics:       relay.NewMetrics(registry),
		Decide:        stopguard.Decide(decide),
		Protected:     guard.protected,
		Ended:         guard.ended,
		StatusXML:     func(uuid string) ([]byte, error) { return statusXML(hookproto.Host{Root: string(root)}, uuid) },
		DefinedXML:    func(uuid string) ([]byte, error) { return definedXML(string(root), uuid) },
		Off:           isOff,
		OffText:       "touch " + hostpath.GateOff,
		RefuseUnknown: refuseUnknown,
	}, n
}

// sockets returns the sockets without their listeners.
func (c settings) sockets() []socket {
	sockets := []socket{{path: c.listen, upstream: c.upstream}}
	if c.listenRO != "" {
		sockets = append(sockets, socket{path: c.listenRO, upstream: c.upstreamRO, readOnly: true})
	}
	return sockets
}

// reportReady tells systemd that the gate serves, and whether it took over connections.
func reportReady(previous *state) {
	status := "STATUS=serving"
	if previous != nil {
		connections := 0
		for _, s := range previous.Sockets {
			connections += len(s.Connections)
		}
		status = fmt.Sprintf("STATUS=serving; took over %d connections from the program before", connections)
		slog.Info("took over from the program before", "connections", connections)
	}
	notifySystemd(daemon.SdNotifyReady + "\n" + status)
}

// open sets each socket's listener: that of the previous program, or systemd's, or a new one.
func open(sockets []socket, previous *state, group string) error {
	if previous != nil {
		for i, s := range previous.Sockets {
			var err error
			if sockets[i].listener, err = listenerOf(s.Listener); err != nil {
				return err
			}
			sockets[i].own = s.Made
			for _, c := range s.Connections {
				sockets[i].taken = append(sockets[i].taken, c.ConnState)
			}
			sockets[i].listener.SetUnlinkOnClose(s.Made)
		}
		return nil
	}
	first, err := fromSystemd()
	if err != nil {
		return err
	}
	sockets[0].listener = first
	for i, s := range sockets {
		if s.listener == nil {
			if sockets[i].listener, err = listen(s.path, group); err != nil {
				return err
			}
			sockets[i].own = true
		}
	}
	return nil
}
