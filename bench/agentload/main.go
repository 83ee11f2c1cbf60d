// Command load sends requests to an agent at a steady rate and prints the latencies and the agent's
// memory.
//
//	go run ./bench/agentload -rate 10000 -for 1m
//
// A request is due at its time, even if earlier ones have not been answered: the time that a
// request waits for a slow one before it is part of its latency. Requests are built by hand,
// because the agent shares the machine's processors.
package main

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const body = `{"input": {"version": 1, "operation": "stop", "time": "2026-11-22T12:00:00Z",
	"host": {"name": "kvm-07", "domains": []}, "caller": {"uid": -1, "user": "", "pid": 0},
	"domain": {"name": "web-01", "uuid": "16e14a01-2b11-40de-a128-75e3f4a5fe12", "id": 7, "type": "kvm", "title": "", "description": "",
		"memory_bytes": 1073741824, "vcpus": 1, "arch": "x86_64", "machine": "q35", "state": "running", "reason": "booted", "job": "",
		"disks": [], "interfaces": [], "hostdevs": [], "listed": [],
		"metadata": [{"name": "protection", "namespace": "urn:stopguard:protection:1", "attributes": {"reason": "billing primary", "until": "2099-06-30"}, "text": "", "children": []}],
		"metadata_error": ""},
	"xml": {"name": "domain", "namespace": "", "attributes": {}, "text": "", "children": []}}}`

func main() {
	socket := flag.String("socket", "/run/stopguard/agent.sock", "the agent's socket")
	rate := flag.Int("rate", 10000, "questions a second, of all connections together")
	connections := flag.Int("connections", 64, "connections, each with one question at a time")
	length := flag.Duration("for", time.Minute, "how long")
	flag.Parse()
	if err := run(*socket, *rate, *connections, *length); err != nil {
		fmt.Fprintf(os.Stderr, "load: %v\n", err)
		os.Exit(1)
	}
}

func run(socket string, rate, connections int, length time.Duration) error {
	if rate < 1 || connections < 1 {
		return errors.New("rate and connections are 1 at least")
	}
	first, err := net.Dial("unix", socket)
	if err != nil {
		return fmt.Errorf("%w; start the agent", err)
	}
	pid := peerOf(first)
	first.Close()
	before, spent := resident(pid), processorTime(pid)
	took := make([][]time.Duration, connections)
	errs := make([]error, connections)
	var all sync.WaitGroup
	began := time.Now()
	for n := range connections {
		all.Go(func() {
			interval := time.Second * time.Duration(connections) / time.Duration(rate)
			due := began.Add(interval * time.Duration(n) / time.Duration(connections))
			took[n], errs[n] = ask(socket, due, began.Add(length), interval)
		})
	}
	all.Wait()
	elapsed := time.Since(began)
	if err := errors.Join(errs...); err != nil {
		return err
	}
	every := slices.Concat(took...)
	slices.Sort(every)
	at := func(q float64) time.Duration {
		return every[min(int(q*float64(len(every))), len(every)-1)].Round(time.Microsecond)
	}
	fmt.Printf("decisions   %d in %v, %.0f a second (%d asked for)\n", len(every), elapsed.Round(time.Millisecond), float64(len(every))/elapsed.Seconds(), rate)
	if late := int(length.Seconds()*float64(rate)) - len(every); late > connections {
		fmt.Printf("not asked   %d, for the answers before them did not come in time\n", late)
	}
	fmt.Printf("latency     p50 %v  p90 %v  p99 %v  p99.9 %v  max %v\n", at(.5), at(.9), at(.99), at(.999), at(1))
	// On a machine that does other things too, these are the figures that change least.
	each := func(spent time.Duration) time.Duration { return spent / time.Duration(len(every)) }
	agents := each(processorTime(pid) - spent)
	fmt.Printf("processor   %v a decision of the agent, which is %.0f a second of one core; %v of this program\n",
		agents.Round(time.Microsecond), float64(time.Second)/float64(max(agents, 1)), each(processorTime(os.Getpid())).Round(time.Microsecond))
	fmt.Printf("resident    %s before, %s after\n", before, resident(pid))
	return nil
}

// ask sends requests on one connection from due to end, and returns each answer's latency, counted
// from the due time.
func ask(socket string, due, end time.Time, interval time.Duration) ([]time.Duration, error) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	question := fmt.Appendf(nil, "POST /v1/data/stopguard/decision HTTP/1.1\r\nHost: agent\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	in := bufio.NewReader(conn)
	var took []time.Duration
	var content bytes.Buffer
	for ; due.Before(end) && time.Now().Before(end); due = due.Add(interval) {
		if wait := time.Until(due); wait > 0 {
			time.Sleep(wait)
		}
		if _, err := conn.Write(question); err != nil {
			return nil, err
		}
		response, err := http.ReadResponse(in, nil)
		if err != nil {
			return nil, err
		}
		content.Reset()
		_, err = content.ReadFrom(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != http.StatusOK || !bytes.Contains(content.Bytes(), []byte(`"outcome":"veto"`)) {
			return nil, fmt.Errorf("%s: %s %v", response.Status, content.Bytes(), err)
		}
		took = append(took, time.Since(due))
	}
	return took, nil
}

func peerOf(c net.Conn) (pid int) {
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) {
		if cred, err := syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	})
	return pid
}

// processorTime returns the processor time of a process.
func processorTime(pid int) time.Duration {
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every Linux that Go runs on
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(content), ") ")
	fields := strings.Fields(after)
	var ticks int
	for _, field := range fields[min(11, len(fields)):min(13, len(fields))] { // utime and stime
		n, err := strconv.Atoi(field)
		if err == nil {
			ticks += n
		}
	}
	return time.Duration(ticks) * tick
}

// resident returns the resident memory of a process, as the kernel prints it.
func resident(pid int) string {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return "?"
	}
	for line := range strings.Lines(string(content)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			return strings.TrimSpace(value)
		}
	}
	return "?"
}
