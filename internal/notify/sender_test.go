package notify

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stopguard/stopguard/internal/testhost"
	"github.com/stopguard/stopguard/policy"
)

const appendLine = `cat >>"$OUT/lines"`

func (s *site) tell(n int) {
	s.t.Helper()
	for i := range n {
		s.Tell(Event{What: Escape, Text: "test", Count: i + 1}, strconv.Itoa(i))
	}
}

func TestEachEventIsToldInOrder(t *testing.T) {
	t.Parallel()
	s := newSite(t, appendLine)
	s.start(quick)
	s.tell(5)
	for i, e := range s.waitFor(5) {
		host, _ := os.Hostname()
		if e.Count != i+1 || e.What != Escape || len(e.ID) != 16 || e.Host != host || time.Since(e.Time) > time.Hour {
			t.Errorf("event %d: %+v", i, e)
		}
	}
	s.tell(1)
	if got := s.Stats(); got.Success < 5 || got.Failure+got.Timeout+got.Full+got.Old != 0 {
		t.Errorf("%+v", got)
	}
}

func TestTheSameEventWaitsOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t, `exit 1`)
	s.start(quick)
	for range 3 {
		s.Tell(Event{What: Escape, Text: "same"}, "x")
	}
	if got := s.Stats().Waiting; got != 1 {
		t.Errorf("%d events wait", got)
	}
}

// The program has its user's rights alone.
func TestTheProgramHasNoRightsOfRoots(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root has rights to take away")
	}
	s := newSite(t, `grep -E '^(Uid|Gid|Groups|Cap(Prm|Eff|Inh|Amb)|NoNewPrivs):' /proc/self/status >"$OUT/rights"
env | grep -vE '^(PWD|OLDPWD|SHLVL|_)=' | sort >"$OUT/env"
cat /proc/self/oom_score_adj >"$OUT/oom"
pwd >"$OUT/pwd"
`+appendLine)
	t.Setenv("SECRET", "of the agent")
	s.start(quick)
	s.tell(1)
	s.waitFor(1)
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(s.root, "out", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	rights := read("rights")
	for _, want := range []string{"Uid:\t65534\t65534\t65534\t65534\n", "Gid:\t65534\t65534\t65534\t65534\n", "Groups:\t \n",
		"CapPrm:\t0000000000000000\n", "CapEff:\t0000000000000000\n", "CapInh:\t0000000000000000\n", "CapAmb:\t0000000000000000\n", "NoNewPrivs:\t1\n"} {
		if !strings.Contains(rights, want) {
			t.Errorf("%q is missing in\n%s", want, rights)
		}
	}
	if env := read("env"); !strings.HasPrefix(env, "LANG=C.UTF-8\nPATH=/") || strings.Count(env, "\n") != 2 {
		t.Errorf("its environment:\n%s", env)
	}
	if got := read("oom") + read("pwd"); got != "1000\n/\n" {
		t.Errorf("%q", got)
	}
	// This process has lost nothing, on any thread that is left.
	threads, _ := filepath.Glob("/proc/self/task/*/status")
	for _, thread := range threads {
		text, err := os.ReadFile(thread)
		if err == nil && !strings.Contains(string(text), "\nUid:\t0\t0\t0\t0\n") {
			t.Errorf("%s is not root's", thread)
		}
	}
}

// A program that fails, hangs, prints without end or is not there is tried again and counted, and
// what it did not take is told when it works.
func TestAProgramThatDoesNotTakeItIsTriedAgain(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		why, script, want string
		timeout           bool
	}{
		"it fails":             {"", `echo 'no route to host' >&2; exit 7`, "exit status 7: no route to host", false},
		"it hangs":             {"", `echo $$ >"$OUT/pid"; exec sleep 1000`, "did not end in time", true},
		"it and a child hang":  {"both are killed", `sleep 1000 & echo $! >"$OUT/pid"; wait`, "did not end in time", true},
		"it ignores a SIGTERM": {"it is a SIGKILL", `trap '' TERM INT HUP; echo $$ >"$OUT/pid"; while :; do sleep 1; done`, "did not end in time", true},
		"it floods":            {"its pipe is closed", `yes`, "too much", false},
		"it floods regardless": {"of the closed pipe", `trap '' PIPE; while :; do echo flood; done 2>/dev/null`, "", true},
		"it is gone":           {"", "", "is missing", false},
		"everybody may write":  {"so anybody could have it run", "#", "writable by others", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, c.script)
			file := filepath.Join(s.root, program)
			switch c.script {
			case "":
				if err := os.Remove(file); err != nil {
					t.Fatal(err)
				}
			case "#":
				if err := os.Chmod(file, 0o777); err != nil {
					t.Fatal(err)
				}
			}
			times := quick
			if c.timeout {
				times.limit = 300 * time.Millisecond
			}
			s.start(times)
			s.tell(2)
			s.eventually("it is counted", func() bool {
				now := s.Stats()
				return c.timeout && now.Timeout > 1 || !c.timeout && now.Failure > 1
			})
			status := s.status()
			if status.Failure == nil || !strings.Contains(status.Failure.Error, c.want) || status.Failure.Failures < 1 || !status.Runs || status.Waiting != 2 {
				t.Errorf("%+v, %+v (%s)", status, status.Failure, c.why)
			}
			if log := s.log.String(); !strings.Contains(log, c.want) || len(log) > 5000 {
				t.Errorf("the log: %.1000q", log)
			}
			if pid, err := os.ReadFile(filepath.Join(s.root, "out/pid")); err == nil {
				id, _ := strconv.Atoi(strings.TrimSpace(string(pid)))
				s.script(`exit 1`)
				s.eventually("what hung is killed", func() bool {
					stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", id))
					return err != nil || strings.Contains(string(stat), ") Z ")
				})
			}
			if err := os.RemoveAll(file); err != nil {
				t.Fatal(err)
			}
			s.script(appendLine)
			s.Stop(0)
			s.start(quick) // on a busy machine, a program that takes the event may need longer than the limit
			told := map[int]bool{}
			for _, e := range s.waitFor(2) { // an event that was sent when the notifier stopped comes twice
				told[e.Count] = true
			}
			if len(told) != 2 || !told[1] || !told[2] {
				t.Errorf("%v", told)
			}
			s.eventually("the failure is over", func() bool { return s.status().Failure == nil })
		})
	}
}

// A program that forks without end leaves room for the threads of who runs it, and nothing of it is
// left.
func TestAProgramThatForksWithoutEndIsStopped(t *testing.T) {
	t.Parallel()
	const name = "daemon" // as nobody, it would take the processes of other tests
	if u, err := user.Lookup(name); os.Geteuid() != 0 || err != nil || u.Gid == "0" {
		t.Skip("it needs root, and a user of its own")
	}
	s := newSite(t, `while :; do sleep 1000 & echo $! >>"$OUT/pids"; done`)
	s.settings.Store(&policy.Notify{Program: program, User: name})
	s.start(quick)
	s.tell(1)
	s.eventually("it is stopped and counted", func() bool { return s.Stats().Failure > 0 })
	s.eventually("the shell says why", func() bool { return strings.Contains(s.log.String(), "fork") })
	// Its first runs may not fork even once, while the user's processes of another run of the tests
	// end.
	s.eventually("it forks", func() bool { _, err := os.Stat(filepath.Join(s.root, "out/pids")); return err == nil })
	s.settings.Store(nil)
	s.eventually("it is not run any more", func() bool { return !s.sends.Load() })
	text, err := os.ReadFile(filepath.Join(s.root, "out/pids"))
	if err != nil {
		t.Fatal(err)
	}
	for pid := range strings.Lines(string(text)) {
		s.eventually("nothing is left of it", func() bool {
			stat, err := os.ReadFile("/proc/" + strings.TrimSpace(pid) + "/stat")
			return err != nil || !strings.Contains(string(stat), "(sleep)") || strings.Contains(string(stat), ") Z ")
		})
	}
}

// An event that the program never takes does not hold up the others.
func TestOneEventDoesNotHoldUpTheOthers(t *testing.T) {
	t.Parallel()
	s := newSite(t, `line=$(cat); case $line in *'"count":1}'*) exit 1;; esac; printf '%s\n' "$line" >>"$OUT/lines"`)
	s.start(quick)
	s.tell(4)
	s.eventually("the others are told", func() bool { return len(s.got()) == 3 })
	s.eventually("one waits", func() bool { return s.Stats().Waiting == 1 })
}

func TestAFullQueueDropsTheOldestAndSaysSo(t *testing.T) {
	t.Parallel()
	s := newSite(t, `exit 1`)
	// Most events are there before the notifier: each that is told looks through the queue, and
	// waits for the disk.
	const told = 100
	if err := (queue{s.root}).create(); err != nil {
		t.Fatal(err)
	}
	for i := range maxEvents + 50 - told {
		e := Event{What: Escape, Text: "test", Count: i + 1}
		e.identify("before", strconv.Itoa(i))
		line, err := e.line()
		if err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("%020d-%s.json", time.Now().UnixNano(), e.ID)
		if err := os.WriteFile(filepath.Join(s.root, home, name), line, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.start(quick)
	s.tell(told)
	s.eventually("they are dropped and counted", func() bool { return s.Stats().Full == 50 })
	names, err := s.queue.names()
	if err != nil || len(names) != maxEvents+1 {
		t.Fatal(len(names), err)
	}
	line, err := s.queue.read(names[1])
	if err != nil || !strings.Contains(string(line), `"count":51}`) {
		t.Errorf("the oldest is %s, %v", line, err)
	}
	for _, name := range names[1:] {
		if err := s.queue.remove(name); err != nil {
			t.Fatal(err)
		}
	}
	s.script(appendLine)
	s.eventually("it is told", func() bool {
		lost := 0
		for _, e := range s.got() {
			if e.What == Lost && strings.Contains(e.Text, "events were dropped") {
				lost += e.Count
			}
		}
		return lost == 50
	})
}

func TestAnEventThatIsTooOldIsDropped(t *testing.T) {
	t.Parallel()
	s := newSite(t, `exit 1`)
	times := quick
	times.age = 300 * time.Millisecond
	s.start(times)
	s.tell(3)
	s.eventually("it is dropped and counted", func() bool { return s.Stats().Old == 3 })
	s.script(appendLine)
	s.eventually("all three are told as lost", func() bool {
		lost := 0
		for _, e := range s.got() {
			if e.What == Lost {
				lost += e.Count
			}
		}
		return lost == 3
	})
}

// One of several notifiers sends. If it is killed while it sends, another notifier sends the event
// again, with the same ID.
func TestAKilledSenderLosesNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t, `cat >>"$OUT/lines"; [ -e "$OUT/go" ] || { echo $$ >>"$OUT/runs"; sleep 1000; }`)
	order := order{Root: s.root, Program: program, User: s.settings.Load().User}
	first := testhost.Start(t, order)
	if said := first.Says(t); said != "ready" {
		t.Fatal(said)
	}
	s.eventually("it has the lock", func() bool { return s.status().Runs })
	s.start(quick) // waits for the lock
	s.tell(20)
	var pid string
	s.eventually("the program runs", func() (isWhole bool) {
		runs, _ := os.ReadFile(filepath.Join(s.root, "out/runs"))
		pid, _, isWhole = strings.Cut(string(runs), "\n")
		return isWhole
	})
	if err := os.WriteFile(filepath.Join(s.root, "out/go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	first.Kill()
	s.eventually("the program is killed with who ran it", func() bool { _, err := os.Stat("/proc/" + pid); return os.IsNotExist(err) })
	told := map[string]int{}
	for _, e := range s.waitFor(21) {
		told[e.ID]++
	}
	if len(told) != 20 || told[s.got()[0].ID] != 2 {
		t.Errorf("%v", told)
	}
}

// A hundred kills, at whatever moment, lose no event.
func TestManyKillsLoseNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t, appendLine)
	o := order{Root: s.root, Program: program, User: s.settings.Load().User}
	q := queue{s.root}
	events := 60
	if testing.Short() {
		events = 15
	}
	for i := range events {
		e := Event{What: Escape, Text: "test", Count: i + 1}
		e.identify(strconv.Itoa(i))
		if err := q.put(e); err != nil {
			t.Fatal(err)
		}
	}
	kills := 0
	for {
		names, err := q.names()
		if err != nil {
			t.Fatal(err)
		}
		if len(names) == 0 {
			break
		}
		child := testhost.Start(t, o)
		child.Says(t)
		time.Sleep(time.Duration(kills%7) * 5 * time.Millisecond)
		if kills > 300 {
			time.Sleep(100 * time.Millisecond) // a busy machine
		}
		child.Kill()
		kills++
	}
	told := map[string]int{}
	for _, e := range s.got() {
		told[fmt.Sprint(e.Count, e.ID)]++
	}
	if len(told) != events {
		t.Errorf("%d of %d events are told, with %d kills: %v", len(told), events, kills, told)
	}
	t.Logf("%d kills, %d lines", kills, len(s.got()))
}

// Before the settings have been read once, it is unknown whether the site has a program.
func TestAnEventIsLoggedIfTheSettingsCannotBeRead(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		why    string
		isRead bool
		want   string
	}{
		{"they were never read", false, "an event for data.site.notify is lost (the gate was stopped): data.yaml is not YAML\n"},
		{"the site had no program when they were read", true, ""},
	} {
		t.Run(tt.why, func(t *testing.T) {
			var isBroken atomic.Bool
			isBroken.Store(!tt.isRead)
			var read atomic.Int32
			var log strings.Builder
			n := Start(Config{
				Root: t.TempDir(), timing: &timing{pace: time.Millisecond},
				Settings: func() (*policy.Notify, error) {
					defer read.Add(1)
					if isBroken.Load() {
						return nil, errors.New("data.yaml is not YAML")
					}
					return nil, nil
				},
				Log: func(format string, args ...any) { fmt.Fprintf(&log, format+"\n", args...) },
			})
			for read.Load() < 3 {
				time.Sleep(time.Millisecond)
			}
			isBroken.Store(true)
			n.Tell(Event{What: GateStopped, Text: "the gate was stopped"})
			n.Stop(0)
			if got := log.String(); got != tt.want {
				t.Errorf("the log is %q", got)
			}
		})
	}
}
