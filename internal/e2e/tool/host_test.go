//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// An observation is the result of one step.
type observation struct {
	Step string
	Exit int
	Out  string
}

// A host is the inside of a machine.
type host struct{ seen []observation }

func (h *host) see(step string, exit int, format string, args ...any) {
	o := observation{step, exit, fmt.Sprintf(format, args...)}
	fmt.Printf("== %s: %d\n%s\n", o.Step, o.Exit, o.Out)
	h.seen = append(h.seen, o)
}

// finish writes the observations to a file and switches the host off.
func (h *host) finish() {
	content, err := json.Marshal(h.seen)
	if err == nil {
		err = os.WriteFile(shared+"/"+os.Getenv(scriptVariable)+".json", content, 0o644)
	}
	fmt.Println("off:", err)
	fmt.Println(h.command("journalctl", "--no-pager", "-n", "200"))
	fmt.Println(h.command("systemctl", "start", "--no-block", "poweroff.target"))
	os.Exit(0)
}

func (h *host) command(name string, args ...string) (int, string) {
	return h.commandAs(nil, name, args...)
}

func (h *host) commandAs(user *syscall.Credential, name string, args ...string) (int, string) {
	return h.commandWithin(time.Minute, user, name, args...)
}

func (h *host) commandWithin(limit time.Duration, user *syscall.Credential, name string, args ...string) (int, string) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: user}
	cmd.WaitDelay = time.Second // a daemon may keep the output open
	cmd.Dir = "/"
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return exit.ExitCode(), string(out)
	case err != nil:
		return -1, string(out) + err.Error()
	}
	return 0, string(out)
}

// do runs a program and records its output.
func (h *host) do(step, name string, args ...string) {
	exit, out := h.command(name, args...)
	h.see(step, exit, "%s", out)
}

func (h *host) tool(step string, args ...string) { h.do(step, shared+"/stopguard", args...) }

// A finding is one of doctor's.
type finding struct{ ID, Severity, What string }

// findings returns doctor's findings about the gate.
func (h *host) findings() []finding {
	_, out := h.command(shared+"/stopguard", "doctor", "-o", "json")
	var r struct{ Findings []finding }
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		fmt.Printf("doctor: %v: %s\n", err, out)
	}
	return slices.DeleteFunc(r.Findings, func(f finding) bool { return !strings.HasPrefix(f.ID, "gate-") })
}

// doctor records doctor's findings about the gate that are not ok.
func (h *host) doctor(step string) {
	var ill []string
	looked := map[string]bool{}
	for _, f := range h.findings() {
		looked[f.ID] = true
		if f.Severity != "ok" {
			ill = append(ill, f.ID+": "+f.Severity)
			fmt.Println(f.ID, f.What)
		}
	}
	// These come last, and need what only a real host has: the table of its sockets.
	if !looked["gate-peers"] || !looked["gate-monitor-peers"] {
		h.see(step, 1, "not all was looked at: %v", looked)
		return
	}
	h.see(step, 0, "looked at: %s", strings.Join(ill, ", "))
}

// connected keeps a connection past the gate while doctor looks.
func (h *host) connected(step, path string) {
	conn, err := net.Dial("unix", path)
	if err != nil {
		h.see(step, 1, "%v", err)
		return
	}
	defer conn.Close()
	time.Sleep(200 * time.Millisecond) // until it is accepted
	h.doctor(step)
}

func (h *host) file(path, content string) {
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.WriteFile(path, []byte(content), 0o644)
	}
	if err != nil {
		h.see("file "+path, 1, "%v", err)
	}
}

func (h *host) read(path string) string {
	content, _ := os.ReadFile(path)
	return strings.TrimSpace(string(content))
}

func (h *host) show(unit, property string) string {
	_, out := h.command("systemctl", "show", "--property="+property, "--value", unit)
	return strings.TrimSpace(out)
}

// tree returns the modes, contents and link targets below the folders that an installation changes.
func (h *host) tree() string {
	var b bytes.Buffer
	for _, root := range []string{"/etc", "/usr/sbin", "/usr/libexec", "/var/lib/stopguard", "/run/stopguard-up", "/run/libvirt/libvirt-sock", "/run/libvirt/virtqemud-sock"} {
		_ = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if err != nil || strings.HasPrefix(path, "/etc/libvirt/") || strings.HasPrefix(path, "/var/lib/stopguard/tickets") || path == "/etc/machine-id" {
				return nil
			}
			info, err := e.Info()
			if err != nil {
				return nil
			}
			fmt.Fprint(&b, path, " ", info.Mode())
			switch {
			case info.Mode().IsRegular():
				content, _ := os.ReadFile(path)
				fmt.Fprintf(&b, " %x", sha256.Sum256(content))
			case info.Mode().Type() == fs.ModeSymlink:
				to, _ := os.Readlink(path)
				fmt.Fprint(&b, " ", to)
			}
			b.WriteByte('\n')
			return nil
		})
	}
	return b.String()
}

// A knocker connects to libvirt's socket again and again.
type knocker struct {
	stop    chan struct{}
	wait    sync.WaitGroup
	refused time.Duration // the longest time in which nothing got through
	knocks  int
}

func knockAt(path string) *knocker {
	k := &knocker{stop: make(chan struct{})}
	k.wait.Go(func() {
		last := time.Now()
		for {
			conn, err := net.Dial("unix", path)
			now := time.Now()
			k.knocks++
			if err == nil {
				conn.Close()
				last = now
			} else if now.Sub(last) > k.refused {
				k.refused = now.Sub(last)
			}
			select {
			case <-k.stop:
				return
			case <-time.After(2 * time.Millisecond):
			}
		}
	})
	return k
}

func (k *knocker) end() (refused time.Duration) {
	close(k.stop)
	k.wait.Wait()
	return k.refused
}
