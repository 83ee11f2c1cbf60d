//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	everydayScript = "everyday: "

	listFile   = "/etc/libvirt/protected-domains"
	ruleFile   = "/etc/stopguard/policy/site.rego"
	logFolder  = "/var/log/stopguard"
	recordFile = logFolder + "/decisions.jsonl"

	markVeto = "stopguard: veto: pg-primary-01: protected until 2099-06-30: billing primary (rule protection_mark)"
)

var (
	marked = guest{
		Name: "pg-primary-01",
		UUID: "d19e7151-4c02-4aa7-a443-59213be70aba",
		Metadata: `<p:protection xmlns:p="urn:stopguard:protection:1" reason="billing primary" until="2099-06-30"/>` +
			`<nova:instance xmlns:nova="http://openstack.org/xmlns/libvirt/nova/1.1"><nova:name>pg-primary-01</nova:name></nova:instance>`,
	}
	unstartable = guest{
		Name:   "web-02",
		UUID:   "0f6f7b1c-33ab-4a52-9a60-95b1f1f7c0de",
		Kernel: filepath.Join(guestDir, "no-kernel"),
	}
)

// A condition is a host on which the everyday script is run.
type condition struct {
	name, why  string
	arrange    func(*host)
	live, dead expected            // the result of a stop of the guest
	records    map[string][]string // the outcomes that the decision record gets from a step
}

// expected is an answer: its whole stderr, or how that begins, something in it, and how it ends.
type expected struct {
	exit                  int
	line                  string
	begin, includes, ends string
}

func fault(includes string) expected {
	return expected{
		exit:     2,
		begin:    "stopguard: fault: pg-primary-01: ",
		includes: includes,
		ends:     "; to switch the guard off: chmod -x " + hookFile + "\n",
	}
}

func (want expected) check(t *testing.T, got answer) {
	t.Helper()
	if got.Exit != want.exit {
		t.Errorf("exit status %d, want %d", got.Exit, want.exit)
	}
	if got.Stdout != "" {
		t.Errorf("stdout: %q", got.Stdout)
	}
	line := got.Stderr
	if want.begin == "" && line != want.line {
		t.Errorf("stderr:\n%q, want\n%q", line, want.line)
	}
	if !strings.HasPrefix(line, want.begin) || !strings.Contains(line, want.includes) || !strings.HasSuffix(line, want.ends) {
		t.Errorf("stderr:\n%q, want\n%q ... %q ... %q", line, want.begin, want.includes, want.ends)
	}
	if strings.Count(line, "\n") > 1 || len(line) > 1024 {
		t.Errorf("stderr is not one line of at most 1 KiB: %q", line)
	}
}

var (
	veto   = expected{exit: 1, line: markVeto + "\n"}
	letGo  = expected{}
	noHook = condition{name: "no hook", why: "what everything is compared with"}

	allRecorded     = map[string][]string{escape: {"escape"}, vetoed: {"veto"}, moot: {"moot", "escape"}}
	policyFaults    = map[string][]string{ended: {"fault"}, escape: {"fault"}, vetoed: {"fault"}, moot: {"moot", "fault"}}
	nothingRecorded = map[string][]string{} // the program or the record's folder is missing
)

// The effects of a step on the decision record.
const (
	none   = "nothing: the program is not even started"
	ended  = "the end of an unprotected domain"
	escape = "the end of a protected domain that was not let go"
	vetoed = "a stop of a live guest"
	moot   = "a stop of a dead guest, and the end of its domain"
)

var conditions = []condition{
	{
		name: "everything works", why: "the domain is protected, but nothing here is a stop that the hook is asked about",
		arrange: func(*host) {},
		live:    veto, dead: letGo,
		records: allRecorded,
	},
	{
		name: "a broken site policy", why: "it is looked at for a stop only, and a guest that is dead is let go without it",
		arrange: func(h *host) { h.File(ruleFile, "package stopguard.rules.site\n\nveto contains", 0o644) },
		live:    fault("site.rego"), dead: letGo,
		records: policyFaults,
	},
	{
		name: "a list that is a dangling link", why: "a list that cannot be read is no empty list",
		arrange: func(h *host) {
			if err := os.Remove(listFile); err != nil {
				h.Fatalf("%v", err)
			}
			if err := os.Symlink("/etc/libvirt/protected-domains.d/all", listFile); err != nil {
				h.Fatalf("%v", err)
			}
		},
		live: fault(listFile), dead: letGo,
		records: policyFaults,
	},
	{
		name: "a program that cannot start", why: "it is for another machine: the front has to answer in its place",
		arrange: func(h *host) {
			program := []byte(h.Read(programFile))
			const machine = 18 // the offset of e_machine in an ELF header
			program[machine], program[machine+1] = 0xfe, 0xca
			h.File(programFile, string(program), 0o755)
		},
		live:    fault(programFile + " cannot be started (status 126); install it again"),
		dead:    fault(programFile + " cannot be started (status 126); install it again"),
		records: nothingRecorded,
	},
	{
		name: "a program that is missing", why: "half an uninstallation",
		arrange: func(h *host) {
			if err := os.Remove(programFile); err != nil {
				h.Fatalf("%v", err)
			}
		},
		live:    fault(programFile + " is missing, empty or not executable; install it again"),
		dead:    fault(programFile + " is missing, empty or not executable; install it again"),
		records: nothingRecorded,
	},
	{
		name: "a full log disk", why: "what cannot be recorded is decided all the same",
		arrange: func(h *host) {
			if err := syscall.Mount("tmpfs", logFolder, "tmpfs", 0, "mode=755,size=4k"); err != nil {
				h.Fatalf("%v", err)
			}
			h.File(filepath.Join(logFolder, "full"), strings.Repeat("x", 4096), 0o600)
			if err := os.WriteFile(filepath.Join(logFolder, "more"), []byte("x"), 0o600); err == nil {
				h.Fatalf("the log disk is not full")
			}
			_ = os.Remove(filepath.Join(logFolder, "more"))
		},
		live: expected{exit: 1, begin: markVeto, ends: "\n"}, dead: letGo,
		records: nothingRecorded,
	},
}

func conditionNamed(name string) condition {
	for _, c := range conditions {
		if c.name == name {
			return c
		}
	}
	return noHook
}

// A step is one thing that is done to a guest.
type step struct {
	name  string
	virsh string                           // a command, with $XML, $SAVE and $NAME for the guest's files and name
	do    func(h *host, g guest)           // an action instead of the command, or before it
	play  func(h *host, xml string) answer // a stop that is played, where there is a hook; nil where none is
	of    guest                            // whom it is done to, if not marked
	exit  int                              // virsh's exit status

	state  string // the final output of virsh domstate --reason; "none" without a domain
	memory string // the byte that the guest remembers, if it can answer
	calls  string // the daemon's calls of its hook
	record string // the effect on the decision record
}

func (s step) guest() guest {
	if s.of.Name == "" {
		return marked
	}
	return s.of
}

const (
	startCalls   = "prepare start started"
	restoreCalls = "restore prepare start started"
	endCalls     = "stopped release"
)

func playStop(h *host, xml string) answer { return h.stop(marked.Name, xml) }

// steps are the events of a guest's life. A running guest keeps its memory from one step to the
// next.
var steps = []step{
	{name: "it is defined", virsh: "define $XML", state: "shut off (unknown)", record: none},
	{name: "it is started", virsh: "start $NAME", state: "running (booted)", memory: fresh, calls: startCalls, record: none},
	{name: "it is suspended", virsh: "suspend $NAME", state: "paused (user)", record: none},
	{name: "it is resumed", virsh: "resume $NAME", state: "running (unpaused)", memory: kept, record: none},
	{name: "it is saved by libvirt", virsh: "managedsave $NAME", state: "shut off (saved)", calls: endCalls, record: escape},
	{name: "it is restored by libvirt", virsh: "start $NAME", state: "running (restored)", memory: kept, calls: restoreCalls, record: none},
	{name: "it is saved to a file", virsh: "save $NAME $SAVE", state: "shut off (saved)", calls: endCalls, record: escape},
	{name: "it is restored from a file", virsh: "restore $SAVE", state: "running (restored)", memory: kept, calls: restoreCalls, record: none},
	{name: "it is rebooted", virsh: "reboot $NAME --mode acpi", do: notYet, state: "running (restored)", memory: fresh, record: none},
	{name: "it is reset", virsh: "reset $NAME", state: "running (restored)", memory: fresh, record: none},
	{name: "it is shut down by its power button", virsh: "shutdown $NAME --mode acpi", state: "shut off (shutdown)", calls: endCalls, record: escape},
	{name: "it is started again", virsh: "start $NAME", state: "running (booted)", memory: fresh, calls: startCalls, record: none},
	{name: "it powers itself off", do: func(h *host, g guest) { h.Tell(g, 'o') }, state: "shut off (shutdown)", calls: endCalls, record: escape},
	{name: "it is started a third time", virsh: "start $NAME", state: "running (booted)", memory: fresh, calls: startCalls, record: none},
	{name: "it is killed", do: func(h *host, g guest) { h.Signal(h.QEMU(g), syscall.SIGKILL) }, state: "shut off (crashed)", calls: endCalls, record: escape},
	{name: "it is started a fourth time", virsh: "start $NAME", state: "running (booted)", memory: fresh, calls: startCalls, record: none},
	{name: "the daemon is told to read its configuration", do: func(h *host, _ guest) { h.Signal(h.PID(daemonPID), syscall.SIGHUP) }, state: "running (booted)", memory: kept, record: none},
	{name: "the daemon is restarted", do: restart(syscall.SIGTERM), state: "running (booted)", memory: kept, calls: "reconnect", record: none},
	{name: "the daemon is killed and started", do: restart(syscall.SIGKILL), state: "running (booted)", memory: kept, calls: "reconnect", record: none},
	{name: "its stop is asked about", play: playStop, state: "running (booted)", memory: kept, record: vetoed},
	{name: "it is destroyed", virsh: "destroy $NAME", state: "shut off (destroyed)", calls: endCalls, record: escape},
	{name: "it is started a fifth time", virsh: "start $NAME", state: "running (booted)", memory: fresh, calls: startCalls, record: none},
	{name: "it is killed and its stop asked about", do: killUnseen, play: playStop, state: "shut off (crashed)", calls: endCalls, record: moot},
	{name: "who started it goes away", virsh: "start $NAME --autodestroy", state: "shut off (destroyed)", calls: startCalls + " " + endCalls, record: escape},
	{name: "another is defined", of: unstartable, virsh: "define $XML", state: "shut off (unknown)", record: none},
	{name: "another fails to start", of: unstartable, virsh: "start $NAME", exit: 1, state: "shut off (failed)", calls: "prepare start stopped release", record: ended},
	{name: "it is undefined", virsh: "undefine $NAME", state: "none", record: none},
}

func restart(signal syscall.Signal) func(*host, guest) {
	return func(h *host, _ guest) {
		h.EndDaemon(signal)
		h.StartDaemon()
	}
}

// killUnseen leaves the daemon frozen: as long as it has not seen that the guest is dead, the files
// of the guest are there, as they are when a libvirt with the stop operation calls its hook.
func killUnseen(h *host, g guest) {
	h.Freeze(h.PID(daemonPID))
	pid := h.QEMU(g)
	h.Signal(pid, syscall.SIGKILL)
	h.Until("QEMU ends", func() bool { return syscall.Kill(pid, 0) != nil })
}

// notYet makes sure that nothing but a boot makes the guest forget.
func notYet(h *host, g guest) { h.Remind(g) }

// chance matches text that differs from run to run without any hook: the time, and which of
// libvirt's own threads first reports that a QEMU did not start, with or without QEMU's output.
var chance = regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.]+Z|(?s:(process exited while connecting to monitor|qemu unexpectedly closed the monitor).*)`)

func (h *host) everyday(c condition) {
	if c.arrange != nil {
		h.install()
		c.arrange(h)
	}
	h.StartDaemon()
	h.File(unstartable.Kernel, "no kernel", 0o644)
	live := "" // the XML of the running guest
	for _, s := range steps {
		g := s.guest()
		h.nextStep(s.name)
		o := observation{Step: s.name}
		if s.do != nil {
			s.do(h, g)
		}
		if s.virsh != "" {
			xml := filepath.Join(guestDir, g.Name+".xml")
			if strings.HasPrefix(s.virsh, "define") {
				xml = h.Write(g)
			}
			replace := strings.NewReplacer("$XML", xml, "$NAME", g.Name, "$SAVE", filepath.Join(guestDir, g.Name+".save"))
			o.Answer = h.Virsh(strings.Fields(replace.Replace(s.virsh))...)
			o.Answer.Stderr = chance.ReplaceAllString(o.Answer.Stderr, "...")
		}
		if s.play != nil {
			if c.arrange != nil {
				o.Answer = s.play(h, live)
			}
			h.Thaw(h.PID(daemonPID))
		}
		// The state is compared later, so a timeout is not a failure here.
		h.Within(patience/4, func() bool { o.State = h.State(g); return o.State == s.state })
		if s.memory != "" && strings.HasPrefix(o.State, "running") {
			h.Within(patience/4, func() bool { o.Memory = h.Ask(g); return o.Memory == s.memory })
			h.Remind(g)
			live = h.LiveXML(g)
		}
		o.XML = h.Virsh("dumpxml", g.Name).Stdout
		if c.arrange != nil {
			h.Within(patience/8, func() bool { o.Calls = h.calls(); return o.Calls == s.calls })
		}
		h.Within(patience/8, func() bool {
			o.Record = append(o.Record, h.recorded()...)
			return !recordIsKept || len(o.Record) >= len(c.records[s.record])
		})
		h.seen = append(h.seen, o)
	}
}

// baseline returns the observations without a hook.
func baseline(t *testing.T) []observation {
	t.Helper()
	once.Do(func() { unhooked = onHost(t, everydayScript+noHook.name) })
	if len(unhooked) == 0 {
		t.Fatal("there is nothing to compare with")
	}
	return unhooked
}

var (
	once     sync.Once
	unhooked []observation
)

func TestWithoutAHookEveryStepDoesWhatItSays(t *testing.T) {
	t.Parallel()
	for i, o := range baseline(t) {
		s := steps[i]
		if o.Answer.Exit != s.exit || o.State != s.state || o.Memory != s.memory {
			t.Errorf("%s: exit status %d, %q, memory %q; want %d, %q, %q\n%s", s.name,
				o.Answer.Exit, o.State, o.Memory, s.exit, s.state, s.memory, o.Answer.Stderr)
		}
	}
}

func TestNothingButAStopIsChangedByTheHookOnAHostWith(t *testing.T) {
	t.Parallel()
	for _, c := range conditions {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			t.Logf("because %s", c.why)
			got := onHost(t, everydayScript+c.name)
			want := baseline(t)
			if len(got) != len(steps) || len(want) != len(steps) {
				t.Fatalf("%d steps, and %d without the hook; want %d", len(got), len(want), len(steps))
			}
			for i, s := range steps {
				got, want := got[i], want[i]
				t.Run(s.name, func(t *testing.T) {
					if got.Calls != s.calls {
						t.Errorf("the daemon called the hook for %q, want %q", got.Calls, s.calls)
					}
					if s.record == vetoed {
						c.live.check(t, got.Answer)
					} else if s.record == moot {
						c.dead.check(t, got.Answer)
					}
					checkRecord(t, c.records[s.record], s, got.Record)
					got.Calls, got.Record, want.Record = "", nil, nil
					if s.play != nil {
						got.Answer = want.Answer
					}
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("it is not as without a hook (-without +with):\n%s", diff)
					}
				})
			}
		})
	}
}

// recordIsKept is whether the program keeps a decision record.
const recordIsKept = true

// checkRecord compares the lines that a step added to the decision record.
func checkRecord(t *testing.T, outcomes []string, s step, got []string) {
	t.Helper()
	if !recordIsKept {
		return
	}
	var want []string
	for _, outcome := range outcomes {
		want = append(want, outcome+" of "+s.guest().Name)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the decision record holds (-want +got):\n%s", diff)
	}
}

// recorded returns the outcomes that the decision record holds since the last step.
func (h *host) recorded() []string {
	data, err := os.ReadFile(recordFile)
	if err != nil {
		return nil // a missing file shows as missing lines
	}
	var outcomes []string
	for _, line := range bytes.Split(data[min(h.record, len(data)):], []byte("\n")) {
		if len(line) == 0 {
			continue
		}
		var event struct {
			Result struct {
				Outcome string `json:"outcome"`
				Domain  struct {
					Name string `json:"name"`
				} `json:"domain"`
			} `json:"result"`
		}
		if err := json.Unmarshal(line, &event); err != nil {
			outcomes = append(outcomes, fmt.Sprintf("%q: %v", line, err))
			continue
		}
		outcomes = append(outcomes, event.Result.Outcome+" of "+event.Result.Domain.Name)
	}
	h.record = len(data)
	return outcomes
}
