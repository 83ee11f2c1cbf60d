//go:build e2e

package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stopguard/stopguard/internal/gate/wire"
)

// A row is one thing that is measured, directly and through the gate.
type row struct {
	name    string
	measure func(h *host, n int) (line string, ok bool) // direct, gate, the gate's share, and the target
}

// The targets for the time that the gate adds to a call.
const (
	passes  = 30 * time.Microsecond
	decides = 800 * time.Microsecond
)

var rows = []row{
	{"memory of an idle client, of 2,000", (*host).idle},
	{"CONNECT_GET_LIB_VERSION, passed", latency(getLibVersion, nil, "", passes)},
	{"DOMAIN_GET_XML_DESC, passed", latency(getXML, about(ordinary.UUID, 0), "", passes)},
	{"DOMAIN_SET_AUTOSTART, decided", latency(setAutostart, about(ordinary.UUID, 0), "", decides)},
	{"DOMAIN_SUSPEND, decided", latency(suspend, about(ordinary.UUID), "", decides)},
	{"DOMAIN_SUSPEND, vetoed", latency(suspend, about(protected.UUID), "stopguard: veto: protected-01: it is protected (rule site)", decides)},
	{"200 MB uploaded", (*host).upload},
	{"200 MB downloaded", (*host).download},
}

// latency alternately measures one call on an open connection with and without the gate. refusal is
// the gate's text.
func latency(procedure uint32, args []byte, refusal string, target time.Duration) func(*host, int) (string, bool) {
	return func(h *host, n int) (string, bool) {
		time.Sleep(3 * time.Second) // until the policy has not changed for a while, as in normal operation
		a, b := h.connect(directSocket), h.connect(gateSocket)
		defer a.Close()
		defer b.Close()
		const warmUp = 20
		var plain, gated []time.Duration
		for i := range n + warmUp {
			first, second := h.timed(a, procedure, args, ""), h.timed(b, procedure, args, refusal)
			if i >= warmUp {
				plain, gated = append(plain, first), append(gated, second)
			}
		}
		adds := middle(gated) - middle(plain)
		return fmt.Sprintf("%s\t%s\t%s\t<= %s\t", short(middle(plain)), short(middle(gated)), short(adds), short(target)), adds <= target
	}
}

func (h *host) connect(socket string) *client {
	c, err := connect(socket)
	if err != nil {
		h.Fatalf("%s: %v", socket, err)
	}
	return c
}

// timed makes a call that must have the given result: a fast error is not a valid measurement.
func (h *host) timed(c *client, procedure uint32, args []byte, refusal string) time.Duration {
	began := time.Now()
	err := c.call(procedure, args)
	took := time.Since(began)
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != refusal {
		h.Fatalf("procedure %d is answered with %q instead of %q", procedure, text, refusal)
	}
	return took
}

const (
	clients     = 2000
	idleEach    = 16 << 10
	decidedEach = 32 << 10 // after a decided call, whose garbage has not been collected yet
)

// idle has all clients call something each, and then do nothing.
func (h *host) idle(int) (string, bool) {
	first := h.connect(gateSocket)
	defer first.Close()
	if err := first.call(getLibVersion, nil); err != nil {
		h.Fatalf("%v", err)
	}
	before := h.resident()
	all := make([]*client, clients)
	var wait sync.WaitGroup
	errs := make(chan error, clients)
	for part := range 8 {
		wait.Go(func() {
			for i := part; i < clients; i += 8 {
				c, err := connect(gateSocket)
				if err == nil {
					err = c.call(getLibVersion, nil)
				}
				all[i] = c
				errs <- err
			}
		})
	}
	wait.Wait()
	for range clients {
		if err := <-errs; err != nil {
			h.Fatalf("a client of %d: %v", clients, err)
		}
	}
	time.Sleep(5 * time.Second)
	idle := h.resident()
	for i, c := range all { // all of them are still served
		if err := c.call(suspend, about(ordinary.UUID)); err != nil {
			h.Fatalf("client %d of %d: %v", i, clients, err)
		}
	}
	time.Sleep(5 * time.Second)
	again := h.resident()
	for _, c := range all {
		_ = c.Close()
	}
	each, eachAgain := (idle-before)/clients, (again-before)/clients
	return fmt.Sprintf("\t%s, %s after a decided call each\t%s, %s each\t<= %s, %s\t", mib(idle), mib(again), kib(each), kib(eachAgain), kib(idleEach), kib(decidedEach)),
		each <= idleEach && eachAgain <= decidedEach
}

// resident returns the gate's resident memory.
func (h *host) resident() int64 { return h.ofStatus("VmRSS:") << 10 }

func (h *host) ofStatus(field string) int64 {
	for line := range strings.Lines(h.Read(fmt.Sprintf("/proc/%d/status", h.gate.Process.Pid))) {
		if rest, ok := strings.CutPrefix(line, field); ok {
			var n int64
			if _, err := fmt.Sscan(rest, &n); err == nil {
				return n
			}
		}
	}
	h.Fatalf("the gate's status has no %s", field)
	return 0
}

const (
	volume     = 200_000_000
	transfers  = 7   // of each side
	throughput = 0.8 // of direct
	pool       = "/var/lib/libvirt/pool"
	source     = "/run/volume"
	target     = "/var/cache/libvirt/volume"
)

func (h *host) upload(int) (string, bool) {
	return h.transfer(func(uri string) { h.on(uri, "vol-upload", "v", source, "--pool", "p") })
}

func (h *host) download(int) (string, bool) {
	return h.transfer(func(uri string) {
		h.on(uri, "vol-download", "v", target, "--pool", "p")
		if info, err := os.Stat(target); err != nil || info.Size() != volume {
			h.Fatalf("what was downloaded is not whole: %v", err)
		}
	})
}

// transfer measures virsh, from its start to its end.
func (h *host) transfer(by func(uri string)) (string, bool) {
	if _, err := os.Stat(source); errors.Is(err, os.ErrNotExist) {
		h.File(source, strings.Repeat("0123456789abcdef", volume/16), 0o600)
		if err := os.MkdirAll(pool, 0o755); err != nil {
			h.Fatalf("%v", err)
		}
		h.on(direct, "pool-create-as", "p", "dir", "--target", pool)
		h.on(direct, "vol-create-as", "p", "v", fmt.Sprint(volume))
	}
	var plain, gated []time.Duration
	for i := range transfers + 1 {
		began := time.Now()
		by(direct)
		half := time.Now()
		by(through)
		if i > 0 {
			plain, gated = append(plain, half.Sub(began)), append(gated, time.Since(half))
		}
	}
	ratio := float64(middle(plain)) / float64(middle(gated))
	return fmt.Sprintf("%s\t%s\t%.2f of direct\t>= %.1f\t", perSecond(middle(plain)), perSecond(middle(gated)), ratio, throughput), ratio >= throughput
}

func (h *host) on(uri string, args ...string) {
	if got := h.Command("", h.Environment(), "virsh", append([]string{"-c", uri}, args...)...); got.Exit != 0 {
		h.Fatalf("virsh %q: %+v", args, got)
	}
}

func middle(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}

// verdictOf is a refusal by the gate, or nil.
func verdictOf(err error) *wire.Error {
	var e *wire.Error
	if errors.As(err, &e) {
		return e
	}
	return nil
}

func short(d time.Duration) string {
	if d < time.Millisecond {
		return fmt.Sprintf("%.0f us", float64(d)/float64(time.Microsecond))
	}
	return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond))
}

func mib(n int64) string               { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
func kib(n int64) string               { return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10)) }
func perSecond(d time.Duration) string { return fmt.Sprintf("%.0f MB/s", volume/1e6/d.Seconds()) }
