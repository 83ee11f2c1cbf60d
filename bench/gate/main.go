//go:build e2e

// Gate measures the cost of the gate, beside the same daemon without it, in one run. It needs root,
// and an installed libvirtd and QEMU. They run in their own namespaces and do not change the
// machine. See ../README.md.
//
//	go run -tags e2e ./bench/gate                 # every row
//	go run -tags e2e ./bench/gate -soak 10m       # instead of the rows, the gate's memory under load
//	STOPGUARD_E2E_MODULAR=$(.ci/modular-daemons) go run -tags e2e ./bench/gate   # before virtqemud
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/stopguard/stopguard/internal/e2ehost"
	"github.com/stopguard/stopguard/internal/gate/unit"
)

// needs are the programs that the rows cannot be measured without.
var needs = []string{"libvirtd", "virtlogd", "virsh", "dbus-daemon", "qemu-system-x86_64"}

// gateVariable names the built gate on the host.
const gateVariable = "STOPGUARD_BENCH_GATE"

func main() {
	match := flag.String("rows", "", "a regular expression: only rows whose name it matches")
	n := flag.Int("n", 2000, "calls of each side that a median is taken of")
	soak := flag.Duration("soak", 0, "instead of the rows, load the gate for so long and print what it holds")
	flag.Parse()
	wanted, err := regexp.Compile(*match)
	e2ehost.Inside(func(string) { newHost().play(wanted, max(*n, 1), *soak) })
	if err == nil && (*soak > 0 || slices.ContainsFunc(rows, func(r row) bool { return wanted.MatchString(r.name) })) {
		err = run()
	}
	switch {
	case errors.Is(err, errMissing):
		fmt.Fprintln(os.Stderr, "bench/gate:", err)
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench/gate:", err)
		os.Exit(1)
	}
}

var errMissing = errors.New("it cannot be measured here")

// run builds the gate and measures it on a host.
func run() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("%w: it must run as root, for it starts libvirtd", errMissing)
	}
	if err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin"); err != nil {
		return err
	}
	var missing []string
	for _, program := range needs {
		if _, err := exec.LookPath(program); err != nil {
			missing = append(missing, program)
		}
	}
	if missing != nil {
		return fmt.Errorf("%w: %s cannot be found; install libvirt and QEMU", errMissing, strings.Join(missing, ", "))
	}
	dir, err := os.MkdirTemp("", "sgbench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	gate := filepath.Join(dir, "stopguard-gate")
	build := exec.Command("go", "build", "-trimpath", "-o", gate, "github.com/stopguard/stopguard/cmd/stopguard-gate")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("the gate cannot be built: %w: %s", err, out)
	}
	cmd := e2ehost.Command("bench")
	cmd.Args = os.Args
	cmd.Env = append(cmd.Env, gateVariable+"="+gate)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}

// A host has libvirtd, two guests that are paused, and the gate.
type host struct {
	*e2ehost.Host
	gate *exec.Cmd
}

var (
	daemon       = e2ehost.Layout.Daemon
	gateSocket   = e2ehost.Layout.Public
	directSocket = e2ehost.Layout.Upstream
	direct       = "qemu:///system?socket=" + directSocket
	through      = "qemu:///system?socket=" + gateSocket
)

var (
	ordinary  = e2ehost.Guest{Name: "web-01", UUID: "3c9e4d35-0b0b-4d05-8e0e-2f4d0f3b7a55"}
	protected = e2ehost.Guest{Name: "protected-01", UUID: "5b4d5b3c-6f53-4b8a-8a5e-9f7f6b6a0c11"}
)

const rule = `package stopguard.rules.site

veto contains "it is protected" if startswith(input.domain.name, "protected-")
`

func newHost() *host {
	h := &host{Host: &e2ehost.Host{URI: direct, Doing: "the host is made"}}
	// Children inherit this limit: each client takes a descriptor of the daemon, and two of the
	// gate.
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		h.Fatalf("%v", err)
	}
	if files.Max < 4*clients {
		h.Fatalf("%d files may be open, and it takes %d; raise the hard limit (ulimit -Hn)", files.Max, 4*clients)
	}
	files.Cur = files.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		h.Fatalf("%v", err)
	}
	h.Config = fmt.Sprintf("unix_sock_dir = %q\nmax_clients = 5000\nmax_queued_clients = 5000\nmax_anonymous_clients = 5000\nlog_filters = \"\"\n", unit.UpstreamFolder)
	h.Prepare()
	h.File(e2ehost.ConfigFile, h.Config, 0o644) // without the log that tests look at
	h.File("/etc/stopguard/policy/site.rego", rule, 0o644)
	for dir, mode := range map[string]os.FileMode{unit.UpstreamFolder: 0o700, "/run/libvirt": 0o755, "/run/lock": 0o755} {
		if err := os.MkdirAll(dir, mode); err != nil {
			h.Fatalf("%v", err)
		}
	}
	h.StartDaemon()
	for _, g := range []e2ehost.Guest{ordinary, protected} {
		h.VirshOK("define", h.Write(g))
		h.VirshOK("start", g.Name)
		h.Ask(g)
		h.VirshOK("suspend", g.Name)
	}
	return h
}

// startGate starts a new gate, so that earlier measurements do not affect the next.
func (h *host) startGate() {
	if h.gate != nil {
		h.Signal(h.gate.Process.Pid, syscall.SIGTERM)
		_ = h.gate.Wait()
	}
	log, err := os.Create("/run/gate.log")
	if err != nil {
		h.Fatalf("%v", err)
	}
	defer log.Close()
	h.gate = exec.Command(os.Getenv(gateVariable), "-listen", gateSocket, "-upstream", directSocket)
	h.gate.Stdout, h.gate.Stderr = log, log
	h.gate.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := h.gate.Start(); err != nil {
		h.Fatalf("%v", err)
	}
	h.Until("the gate answers", func() bool {
		c, err := connect(gateSocket)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

func (h *host) play(wanted *regexp.Regexp, n int, soak time.Duration) {
	h.Doing = "the gate is measured"
	if soak > 0 {
		h.startGate()
		h.soak(soak)
		return
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "before "+daemon+"\tdirect\tgate\tgate adds\ttarget\t")
	missed := 0
	for _, r := range rows {
		if !wanted.MatchString(r.name) {
			continue
		}
		h.startGate()
		line, ok := r.measure(h, n)
		if !ok {
			line, missed = line+"missed", missed+1
		}
		fmt.Fprintf(table, "%s\t%s\n", r.name, line)
	}
	if err := table.Flush(); err != nil {
		h.Fatalf("%v", err)
	}
	if missed > 0 {
		fmt.Printf("\n%d missed\n", missed)
	}
}
