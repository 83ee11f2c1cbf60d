// Gate decides about every call on libvirt's socket that could end, pause, reset or move a domain, or take its protection
// away, before libvirtd gets it. It listens where clients look for libvirtd, and libvirtd where only root can reach it; see
// README.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"os/user"
	"strconv"
	"sync"
	"syscall"

	"github.com/stopguard/stopguard"
	"github.com/stopguard/stopguard/examples/gate/relay"
	"github.com/stopguard/stopguard/internal/hostfile"
	"github.com/stopguard/stopguard/policy"
)

// offFile switches the gate off while it is there.
const offFile = "/etc/stopguard/gate-off"

func main() {
	var c settings
	flag.StringVar(&c.listen, "listen", "/run/libvirt/libvirt-sock", "where clients look for libvirtd")
	flag.StringVar(&c.listenRO, "listen-ro", "", "where clients look for its read-only socket; empty for none")
	flag.StringVar(&c.upstream, "upstream", "/run/stopguard-up/libvirt-sock", "where libvirtd listens")
	flag.StringVar(&c.upstreamRO, "upstream-ro", "/run/stopguard-up/libvirt-sock-ro", "where its read-only socket is")
	flag.StringVar(&c.group, "group", "", "the `group` that may connect; empty for everybody, so that libvirtd and polkit decide alone")
	flag.BoolVar(&c.refuseUnknown, "refuse-unknown", false, "refuse calls of a newer libvirt than the gate knows")
	flag.StringVar(&c.metrics, "metrics", "", "a `file` that the metrics are kept in, for node_exporter's textfile collector: its name ends with .prom")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "stopguard-gate: %q is not understood; see -help\n", flag.Arg(0))
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, c); err != nil {
		fmt.Fprintln(os.Stderr, "stopguard-gate:", err)
		os.Exit(1)
	}
}

type settings struct {
	listen, listenRO, upstream, upstreamRO, group, metrics string
	refuseUnknown                                          bool
}

// run serves until ctx is done or something fails.
func run(ctx context.Context, c settings) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	root := hostfile.Root(os.Getenv("STOPGUARD_ROOT"))
	registry := newRegistry()
	config := relay.Config{
		Measures: relay.NewMeasures(registry),
		Verdict:  stopguard.Decide(stopguard.Config{Engine: (&policy.HostEngine{Root: string(root)}).Engine}),
		Off: func() bool {
			_, err := root.Read(offFile, 1<<10)
			return err == nil
		},
		OffText:       "touch " + offFile,
		RefuseUnknown: c.refuseUnknown,
	}
	if c.metrics != "" {
		end, err := keepMetrics(c.metrics, registry)
		if err != nil {
			return err
		}
		defer end()
	}
	type socket struct {
		listen, upstream string
		readOnly         bool
	}
	sockets := []socket{{c.listen, c.upstream, false}}
	if c.listenRO != "" {
		sockets = append(sockets, socket{c.listenRO, c.upstreamRO, true})
	}
	var wait sync.WaitGroup
	failed := make(chan error, len(sockets))
	for _, s := range sockets {
		l, err := listen(s.listen, c.group)
		if err != nil {
			cancel()
			wait.Wait()
			return err
		}
		config.Upstream, config.ReadOnly = s.upstream, s.readOnly
		gate := relay.New(config)
		wait.Go(func() {
			defer cancel() // one socket without the other is no gate
			failed <- gate.Serve(ctx, l)
		})
	}
	wait.Wait()
	close(failed)
	var err error
	for e := range failed {
		err = errors.Join(err, e)
	}
	return err
}

// listen makes a socket for everybody, or for root and a group. One that a gate left behind is taken away; one that
// somebody listens on is not.
func listen(path, group string) (*net.UnixListener, error) {
	switch conn, err := net.Dial("unix", path); {
	case err == nil:
		_ = conn.Close()
		return nil, fmt.Errorf("somebody listens on %s already; move libvirtd's socket first, as README.md says", path)
	case errors.Is(err, syscall.ECONNREFUSED): // nobody has it open
		if info, err := os.Lstat(path); err == nil && info.Mode().Type() == os.ModeSocket {
			if err := os.Remove(path); err != nil {
				return nil, err
			}
		}
	}
	gid, mode := -1, os.FileMode(0o666)
	if group != "" {
		g, err := user.LookupGroup(group)
		if err != nil {
			return nil, fmt.Errorf("%w; create it, or leave -group away", err)
		}
		if gid, err = strconv.Atoi(g.Gid); err != nil {
			return nil, err
		}
		mode = 0o660
	}
	before := syscall.Umask(0o177) // nobody gets in before the mode is right
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	syscall.Umask(before)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(os.Chown(path, -1, gid), os.Chmod(path, mode)); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}
