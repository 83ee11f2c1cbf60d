//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stopguard/stopguard/internal/e2ehost"
	"github.com/stopguard/stopguard/policy/record"
)

// With modular daemons, libvirtd's sockets and TCP are virtproxyd's. It connects to virtqemud as
// root for each of its clients, by the gate's socket.
const (
	legacy  = "qemu:///system?mode=legacy"
	network = "qemu+tcp://127.0.0.1/system"

	// A reset of an unprotected guest is refused with what a rule sees of the caller.
	callerRule = `package stopguard.rules.caller

veto contains message if {
	input.operation == "reset"
	not startswith(input.domain.name, "protected-")
	message := sprintf("user %q, uid %d, group %d, via %q", [input.caller.user, input.caller.uid, input.caller.gid, input.caller.via])
}
`
	openConfig = "auth_unix_rw = \"none\"\nunix_sock_rw_perms = \"0777\"\n"
)

// clientChecks are those of Python's clients that are made by each of virtproxyd's sockets.
var clientChecks = []string{"a_veto_is_a_libvirt_error", "events_come", "the_console_answers", "sixty_four_clients_at_once",
	"many_threads_on_one_connection", "a_domain_that_would_die_with_its_connection"}

// A way is a URI by which a user reaches virtqemud, and what a rule sees of this user.
type way struct{ name, user, uri, caller string }

var ways = []way{
	{"root, directly", "root", "qemu:///system", `user "root", uid 0, group 0, via ""`},
	{"alice, directly", "alice", "qemu:///system", `user "alice", uid 2001, group 2001, via ""`},
	{"root, by libvirtd's socket", "root", legacy, `user "root", uid 0, group 0, via "unknown"`},
	{"alice, by libvirtd's socket", "alice", legacy, `user "alice", uid 2001, group 2001, via "unknown"`},
	{"root, by TCP", "root", network, `user "", uid -1, group -1, via "unknown"`},
	{"alice, by TCP", "alice", network, `user "", uid -1, group -1, via "unknown"`},
}

func (h *host) proxied() {
	h.prepare(openConfig)
	h.File("/etc/stopguard/policy/caller.rego", callerRule, 0o644)
	h.Run("useradd", "-M", "-u", "2001", "-U", "alice")
	h.StartGate()
	h.StartDaemon()
	for _, g := range []e2ehost.Guest{guarded, free} {
		h.Doing = g.Name + " is started"
		h.StartGuest(g)
	}
	h.DirectOK("define", h.Write(resting))
	h.Remind(guarded)
	for _, w := range ways {
		h.Doing = w.name
		for _, command := range []string{"destroy", "shutdown", "managedsave", "suspend", "reset", "undefine"} {
			h.seen = append(h.seen, step{Name: w.name + ": " + command, Through: h.comes(w, command, guarded.Name), State: h.State(guarded), Memory: h.Ask(guarded)})
		}
		got := h.comes(w, "reset", free.Name)
		got.Stdout = h.lastRequest()
		h.note(w.name+": who it is", got)
		h.note(w.name+": suspend, another", h.comes(w, "suspend", free.Name))
		h.note(w.name+": resume, another", h.comes(w, "resume", free.Name))
		h.note(w.name+": list", h.comes(w, "list", "--all", "--name"))
	}
	h.python(legacy, append(slices.Clone(clientChecks), "screenshots_and_graphics", "clients_are_killed_in_mid_call", "volumes_go_up_and_down_between_vetoes")...)
	h.python(network, clientChecks...) // descriptors do not come by TCP
	h.Doing = "a client across a reload of the gate"
	h.note("alice, across a reload of the gate", h.aliceAcrossReload())
	h.Doing = "virtqemud is down"
	h.EndDaemon(syscall.SIGTERM)
	h.note("virtqemud is down", h.comes(ways[3], "list"))
	h.StartDaemon()
	h.note("virtqemud is up again", h.comes(ways[3], "destroy", guarded.Name))
	h.seen[len(h.seen)-1].Memory = h.Ask(guarded)
}

// comes runs virsh as a user, by a URI.
func (h *host) comes(w way, args ...string) e2ehost.Answer {
	command := append([]string{"--reuid=" + w.user, "--regid=" + w.user, "--init-groups", "virsh", "-c", w.uri}, args...)
	return h.Command("", append(h.Environment(), "HOME=/nonexistent"), "setpriv", command...)
}

// lastRequest returns the request in the newest line of the record, in JSON.
func (h *host) lastRequest() string {
	lines := strings.Split(strings.TrimSpace(h.Read("/"+record.File)), "\n")
	var e record.Event
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &e); err != nil || e.Result.Request == nil {
		h.Fatalf("%v: %s", err, lines[len(lines)-1])
	}
	e.Result.Request.PID = min(e.Result.Request.PID, 1)
	e.Result.Request.ViaPID = min(e.Result.Request.ViaPID, 1)
	text, err := json.Marshal(e.Result.Request)
	if err != nil {
		h.Fatalf("%v", err)
	}
	return string(text)
}

// lasting is a client whose connection is older than the gate's program.
const lasting = `
import os, time, libvirt
conn = libvirt.open("qemu:///system?mode=legacy")
domain = conn.lookupByName("web-01")
open("/run/share/ready", "w").close()
while not os.path.exists("/run/share/go"):
    time.sleep(0.02)
try:
    domain.reset()
except libvirt.libvirtError as e:
    print(e)
`

func (h *host) aliceAcrossReload() e2ehost.Answer {
	h.Run("mkdir", "-m", "777", "/run/share")
	h.File("/run/lasting.py", lasting, 0o644)
	answer := make(chan e2ehost.Answer, 1)
	go func() {
		answer <- h.Command("", h.Environment(), "setpriv", "--reuid=alice", "--regid=alice", "--init-groups", python, "/run/lasting.py")
	}()
	h.Until("alice is connected", func() bool { _, err := os.Stat("/run/share/ready"); return err == nil })
	h.replace(h.Gate.Process.Pid, e2ehost.GateLog)
	h.File("/run/share/go", "", 0o644)
	return <-answer
}

func TestWhatComesByVirtproxydIsDecidedAndTheCallerIsItsClient(t *testing.T) {
	if e2ehost.Modular == "" {
		t.Skip("libvirtd has no virtproxyd; .ci/e2e runs this with virtqemud, too")
	}
	want := map[string]way{}
	for _, w := range ways {
		want[w.name] = w
	}
	known := 0
	for _, s := range on(t, "proxied") {
		t.Run(s.Name, func(t *testing.T) {
			name, what, _ := strings.Cut(s.Name, ": ")
			w, isWay := want[name]
			switch {
			case !isWay && s.Name == "alice, across a reload of the gate":
				if line := "stopguard: veto: web-01: " + ways[3].caller + " (rule caller)"; !strings.Contains(s.Through.Stdout, line) {
					t.Errorf("%+v, want %q", s.Through, line)
				}
			case !isWay && s.Name == "virtqemud is down":
				if !strings.Contains(s.Through.Stderr, "virtqemud is not reachable: ") || !strings.Contains(s.Through.Stderr, "look at systemctl status virtqemud") {
					t.Errorf("%+v", s.Through)
				}
			case !isWay && s.Name == "virtqemud is up again":
				if s.Through.Exit != 1 || !strings.Contains(s.Through.Stderr, veto(guarded.Name)) || s.Memory != e2ehost.Kept {
					t.Errorf("%+v, its memory %s", s.Through, s.Memory)
				}
			case !isWay: // Python's
				if s.State != "ok" {
					t.Error(s.State)
				}
			case what == "who it is":
				if line := "stopguard: veto: web-01: " + w.caller + " (rule caller)"; s.Through.Exit != 1 || !strings.Contains(s.Through.Stderr, line) {
					t.Errorf("%+v, want %q", s.Through, line)
				}
				if diff := cmp.Diff(w.request(), s.Through.Stdout); diff != "" {
					t.Error(diff)
				}
			case what == "list":
				if s.Through.Exit != 0 || !strings.Contains(s.Through.Stdout, guarded.Name) {
					t.Errorf("%+v", s.Through)
				}
			case strings.HasSuffix(what, ", another"):
				if s.Through.Exit != 0 {
					t.Errorf("%+v", s.Through)
				}
			default:
				if s.Through.Exit != 1 || !strings.Contains(s.Through.Stderr, veto(guarded.Name)) {
					t.Errorf("it is not vetoed: %+v", s.Through)
				}
				if !strings.HasPrefix(s.State, "running") || s.Memory != e2ehost.Kept {
					t.Errorf("it is %s, its memory %s", s.State, s.Memory)
				}
			}
			known++
		})
	}
	if least := 10*len(ways) + 2*len(clientChecks) + 3 + 3; known != least {
		t.Errorf("%d steps, want %d", known, least)
	}
}

// request returns what is recorded of a request that comes this way. Process IDs that are known are
// 1.
func (w way) request() string {
	isKnown := w.uri != network
	r := record.Request{Operation: "reset", Procedure: "DOMAIN_RESET", UID: -1}
	if isKnown {
		r.User, r.PID = w.user, 1
		_, _ = fmt.Sscanf(w.caller[strings.Index(w.caller, "uid "):], "uid %d", &r.UID)
	}
	if w.uri != "qemu:///system" {
		r.Via, r.ViaPID = "unknown", 1
	}
	text, _ := json.Marshal(r) // it has plain fields only
	return string(text)
}
