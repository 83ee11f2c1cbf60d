//go:build e2e

package fleet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/hookproto/remote"
	"github.com/stopguard/stopguard/internal/fleetstatus"
	"github.com/stopguard/stopguard/internal/testhost"
)

// agentProgram is the agent, as .ci/e2e built it.
const agentProgram = "STOPGUARD_E2E_AGENT"

// A host is a folder with a host's files, processes that stand for its guests, and an agent.
type host struct {
	t       testing.TB
	name    string
	root    string
	program string // the variable that names the agent

	mu    sync.Mutex // held while the agent is started or killed
	agent *exec.Cmd
	log   *os.File
}

func (c *cluster) newHost(name, data string) *host {
	c.t.Helper()
	return c.newHostWith(agentProgram, name, data)
}

func (c *cluster) newHostWith(program, name, data string) *host {
	c.t.Helper()
	h := c.prepareHost(program, name, data)
	h.configure(c.settings(name))
	h.begin()
	return h
}

// prepareHost makes a host without the agent's configuration.
func (c *cluster) prepareHost(program, name, data string) *host {
	c.t.Helper()
	root, err := os.MkdirTemp("/tmp", "sgfleet") // short enough for a socket
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = os.RemoveAll(root) })
	h := &host{t: c.t, name: name, root: root, program: program}
	testhost.Put(c.t, root,
		"etc/machine-id", name+"\n",
		"etc/stopguard/policy/data.yaml", data,
		"run/libvirt/qemu/.keep", "",
	)
	testhost.Daemon(c.t, root)
	if h.log, err = os.Create(filepath.Join(c.dir, name+".log")); err != nil {
		c.t.Fatal(err)
	}
	return h
}

// begin starts the agent, which ends with the test.
func (h *host) begin() {
	h.start()
	h.t.Cleanup(func() {
		h.kill()
		if h.t.Failed() {
			content, _ := os.ReadFile(h.log.Name())
			h.t.Logf("the end of %s's log:\n%s", h.name, content[max(0, len(content)-1500):])
		}
	})
}

// start starts the agent and waits until it answers.
func (h *host) start() {
	h.mu.Lock()
	defer h.mu.Unlock()
	program := os.Getenv(h.program)
	if program == "" {
		h.t.Fatalf("%s does not name the agent; run .ci/e2e", h.program)
	}
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), "STOPGUARD_ROOT="+h.root)
	cmd.Stdout, cmd.Stderr = h.log, h.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		h.t.Error(err)
		return
	}
	h.agent = cmd
}

// kill ends the agent at once.
func (h *host) kill() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.agent != nil {
		_ = h.agent.Process.Kill()
		_ = h.agent.Wait()
		h.agent = nil
	}
}

func (h *host) status() (*fleetstatus.Status, error) {
	return fleetstatus.Read(context.Background(), h.root)
}

// A guest is a domain of a host, with a process that stands for QEMU's.
type guest struct {
	name, uuid string
	xml        string

	cmd   *exec.Cmd
	stdin io.Closer
}

func newGuest(name, uuid string) *guest {
	return &guest{name: name, uuid: uuid, xml: fmt.Sprintf("<domain type='kvm' id='7'><name>%s</name><uuid>%s</uuid></domain>", name, uuid)}
}

func (g *guest) file(h *host, ending string) string {
	return filepath.Join(h.root, "run/libvirt/qemu", g.name+ending)
}

// start starts the guest as libvirt does: its process, then its files.
func (g *guest) start(h *host) error {
	g.cmd = exec.Command("/bin/sh", "-c", "read end", "qemu", "-uuid", g.uuid)
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var err error
	if g.stdin, err = g.cmd.StdinPipe(); err != nil {
		return err
	}
	if err := g.cmd.Start(); err != nil {
		return err
	}
	pid := g.cmd.Process.Pid
	for { // the command line is empty until the kernel has set the program up
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil || bytes.Contains(line, []byte(g.uuid)) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if err := os.WriteFile(g.file(h, ".pid"), []byte(fmt.Sprintln(pid)), 0o600); err != nil {
		return err
	}
	temp := filepath.Join(h.root, "run/libvirt", g.name+".new")
	if err := os.WriteFile(temp, []byte(fmt.Sprintf("<domstatus state='running' reason='booted' pid='%d'>%s</domstatus>", pid, g.xml)), 0o600); err != nil {
		return err
	}
	return os.Rename(temp, g.file(h, ".xml"))
}

// end ends the guest's process, and then removes its files.
func (g *guest) end(h *host) {
	_ = g.cmd.Process.Kill()
	_ = g.stdin.Close()
	_ = g.cmd.Wait()
	_ = os.Remove(g.file(h, ".xml"))
	_ = os.Remove(g.file(h, ".pid"))
}

// askStop asks the host's agent as the thin hook does. It returns nil if the stop is allowed, a
// *hookproto.Veto, or another error.
func (g *guest) askStop(h *host) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	err := remote.Agent{Root: h.root}.Ask(ctx, &hookproto.Event{
		Domain: g.name, Op: hookproto.OpStop, SubOp: "begin", Extra: "-", Stdin: strings.NewReader(g.xml),
	})
	if errors.Is(err, remote.ErrMoot) {
		return fmt.Errorf("%s is alive, and its stop is moot", g.name)
	}
	return err
}
