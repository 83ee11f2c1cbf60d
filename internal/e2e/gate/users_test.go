//go:build e2e

package e2e

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/stopguard/stopguard/internal/e2ehost"
)

// alice may do all but end, pause or reset a domain, bob everything; carol is in no group that may
// connect; dora may end a domain, but not read it.
const polkitRules = `
polkit.addRule(function(action, subject) {
	var api = "org.libvirt.api.";
	if (action.id.indexOf(api) != 0) {
		return polkit.Result.NOT_HANDLED;
	}
	var no = {
		alice: ["domain.stop", "domain.suspend", "domain.reset", "domain.init-control", "domain.write"],
		bob: [],
		dora: ["domain.read"]
	}[subject.user];
	if (no === undefined) {
		return polkit.Result.NOT_HANDLED;
	}
	return no.indexOf(action.id.substring(api.length)) < 0 ? polkit.Result.YES : polkit.Result.NO;
});
`

const polkitConfig = `
access_drivers = ["polkit"]
auth_unix_rw = "polkit"
unix_sock_group = "libvirt"
unix_sock_rw_perms = "0770"
`

// userCases are each user's commands. None of them is vetoed.
var userCases = []string{
	"list --all --name", "domstate web-01", "dumpxml web-01 --inactive", "suspend web-01", "resume web-01", "reset web-01",
	"qemu-monitor-command web-01 --hmp info+status", "qemu-monitor-command web-01 --hmp stop", "autostart web-01 --disable",
	"define /run/web-01.xml", "shutdown nobody", "destroy web-01",
}

var users = []string{"alice", "bob", "carol"}

// as runs virsh as a user.
func (h *host) as(user, command string) e2ehost.Answer {
	args := []string{"--reuid=" + user, "--regid=" + user, "--init-groups", "virsh", "-c", "qemu:///system"}
	for _, a := range strings.Fields(command) {
		args = append(args, strings.ReplaceAll(a, "+", " "))
	}
	return h.Command("", append(h.Environment(), "HOME=/nonexistent"), "setpriv", args...)
}

func (h *host) users() {
	h.prepare(polkitConfig)
	h.Doing = "users are made"
	for _, user := range append(users, "dora") {
		h.Run("useradd", "-M", user)
		if user != "carol" {
			h.Run("usermod", "-a", "-G", "libvirt", user)
		}
	}
	h.File("/etc/polkit-1/rules.d/10-test.rules", polkitRules, 0o644)
	h.Run("sh", "-c", "/usr/lib/polkit-1/polkitd --no-debug >/run/polkitd.log 2>&1 &")
	h.StartGate("-group", "libvirt")
	h.StartDaemon()
	h.StartGuest(guarded)
	h.StartGuest(free)
	h.File("/run/web-01.xml", free.XML(), 0o644)
	h.Until("polkitd answers", func() bool { return h.as("bob", "domstate web-01").Exit == 0 })

	h.everyUser(func(s *step, a e2ehost.Answer) { s.Through = a })
	h.note("bob and a protected domain", h.as("bob", "destroy protected-01"))
	h.note("alice and a protected domain", h.as("alice", "destroy protected-01"))
	h.note("dora and what she may not read", h.as("dora", "destroy web-01"))
	s := &h.seen[len(h.seen)-1]
	s.State = h.State(free)
	h.note("alice goes past the gate", h.Command("", h.Environment(), "setpriv", "--reuid=alice", "--regid=alice", "--init-groups", "virsh", "-c", e2ehost.Direct, "list"))

	h.note("bob, across a reload", h.acrossReload("bob"))

	h.Doing = "the gate is taken away"
	h.EndDaemon(syscall.SIGTERM)
	h.EndGate()
	h.File(e2ehost.ConfigFile, polkitConfig, 0o644)
	h.StartDaemon()
	noted := h.seen
	h.seen = nil
	h.everyUser(func(s *step, a e2ehost.Answer) { s.Direct = a })
	for i := range h.seen {
		noted[i].Direct = h.seen[i].Direct
	}
	h.seen = noted
}

// steady uses one connection before and after a reload of the gate.
const steady = `
import os, time, libvirt
conn = libvirt.open("qemu:///system")
domain = conn.lookupByName("web-01")
domain.suspend()
open("/run/share/ready", "w").close()
while not os.path.exists("/run/share/go"):
    time.sleep(0.02)
domain.resume()
print("resumed", domain.XMLDesc().count("<name>web-01</name>"))
`

// acrossReload runs a user's client, which continues after the gate's program was replaced. polkit
// decides about each call and looks for the process that connected to libvirtd.
func (h *host) acrossReload(user string) e2ehost.Answer {
	h.Doing = user + " uses a connection across a reload"
	if err := errors.Join(os.MkdirAll("/run/share", 0o777), os.Chmod("/run/share", 0o777)); err != nil {
		h.Fatalf("%v", err)
	}
	h.File("/run/steady.py", steady, 0o644)
	answer := make(chan e2ehost.Answer, 1)
	go func() {
		answer <- h.Command("", h.Environment(), "setpriv", "--reuid="+user, "--regid="+user, "--init-groups", python, "/run/steady.py")
	}()
	exists := func(path string) bool { _, err := os.Stat(path); return err == nil }
	h.Within(e2ehost.Patience, func() bool { return exists("/run/share/ready") || len(answer) > 0 })
	h.Signal(h.Gate.Process.Pid, syscall.SIGHUP)
	h.Until("another program has taken over", func() bool { return strings.Contains(h.Read(e2ehost.GateLog), "took over from the program before") })
	h.File("/run/share/go", "", 0o644)
	return <-answer
}

func (h *host) everyUser(put func(*step, e2ehost.Answer)) {
	for _, user := range users {
		for _, command := range userCases {
			h.Doing = user + " " + command
			s := step{Name: user + " " + command}
			put(&s, h.as(user, command))
			h.seen = append(h.seen, s)
			if state := h.State(free); strings.HasPrefix(state, "shut off") {
				h.VirshOK("start", free.Name)
			} else if strings.HasPrefix(state, "paused") {
				h.VirshOK("resume", free.Name)
			}
		}
	}
}

func TestEveryUserGetsTheAnswersThatLibvirtdGives(t *testing.T) {
	seen := on(t, "users")
	const denied = "error: access denied: 'QEMU' denied access\n"
	failed := "error: Failed to destroy domain 'protected-01'\n" + veto("protected-01") + "\n"
	extra := map[string]string{
		"bob and a protected domain":     failed,
		"alice and a protected domain":   failed,
		"dora and what she may not read": "error: Failed to destroy domain 'web-01'\n" + denied,
		"alice goes past the gate":       "error: failed to connect to the hypervisor\nerror: Failed to connect socket to '" + upstreamDir + "/libvirt-sock': Permission denied\n",
	}
	denials := 0
	for _, s := range seen {
		t.Run(s.Name, func(t *testing.T) {
			if s.Name == "bob, across a reload" {
				if s.Through.Exit != 0 || s.Through.Stdout != "resumed 1\n" {
					t.Errorf("%+v", s.Through)
				}
				return
			}
			if want, ok := extra[s.Name]; ok {
				if s.Through.Exit != 1 || s.Through.Stderr != want {
					t.Errorf("%+v, want %q", s.Through, want)
				}
				if s.State != "" && !strings.HasPrefix(s.State, "running") {
					t.Errorf("the domain is %s", s.State)
				}
				return
			}
			if s.Through != s.Direct {
				t.Errorf("with the gate %+v;\nwithout it %+v", s.Through, s.Direct)
			}
			if strings.HasSuffix(s.Direct.Stderr, denied) {
				denials++
			}
		})
	}
	if denials < 4 {
		t.Errorf("polkit has denied %d times only", denials)
	}
}
