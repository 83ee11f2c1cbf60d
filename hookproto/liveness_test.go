package hookproto

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A cell is a row of the table in docs/liveness.md, by its number.
type cell struct {
	verdict string
	why     string
	arrange func(*stage)
}

// A stage is a host with one domain, vm, of the UUID of the captures.
type stage struct {
	*testing.T
	Host
}

func (s *stage) qemu(args ...string) int {
	return guest(s.T, 0, append([]string{"-name", "guest=st-running", "-uuid", uuid}, args...)...).Process.Pid
}

func (s *stage) dead() int {
	cmd := guest(s.T, 0)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	return cmd.Process.Pid
}

func (s *stage) zombie() int {
	cmd := guest(s.T, 0, "-uuid", uuid)
	_ = cmd.Process.Kill()
	await(s.T, func() bool { st, err := readStat(cmd.Process.Pid); return err == nil && st.state == 'Z' })
	return cmd.Process.Pid
}

func (s *stage) pidFile(pid int) { s.putPID(s.T, "st-running", pid) }

func (s *stage) status(pid int, replace ...string) {
	s.put(s.T, "st-running.xml", captureFree(s.T, pid, replace...))
}

// in writes both files, with a state, its reason, and more that libvirt writes before the domain.
func (s *stage) in(pid int, state, more string) {
	s.pidFile(pid)
	s.status(pid, `state='running' reason='booted'`, state, "<blockjobs active='no'/>", "<blockjobs active='no'/>"+more)
}

func (s *stage) noDaemon() { s.putDaemon(s.T, "") }

func (s *stage) socket() { listen(s.T, s.Root+"/run/libvirt/libvirt-sock") }

const (
	stageMonitor = "/var/lib/libvirt/qemu/domain-2147480003-st-running/monitor.sock"
	broken       = `state='paused' reason='migration'`
)

func (s *stage) monitor() {
	l := listen(s.T, s.Root+stageMonitor)
	connect(s.T, s.Root+stageMonitor)
	accept(s.T, l)
}

var cells = []cell{
	1: {"alive", "the everyday case", func(s *stage) { s.in(s.qemu(), `state='running' reason='booted'`, ""); s.socket(); s.monitor() }},
	2: {"gone", "QEMU closes its monitor before it exits, and freeing its memory takes long", func(s *stage) {
		s.in(s.qemu(), `state='running' reason='booted'`, "")
		s.socket()
	}},
	3: {"doubtful", "systemd and virtproxyd listen, too, and nothing connects without a daemon", func(s *stage) {
		s.in(s.qemu(), `state='running' reason='booted'`, "")
		s.socket()
		s.noDaemon()
	}},
	4:  {"alive", "the socket table is that of another network namespace", func(s *stage) { s.in(s.qemu(), `state='running' reason='booted'`, "") }},
	5:  {"alive", "the process says enough", func(s *stage) { s.pidFile(s.qemu()) }},
	6:  {"alive", "likewise", func(s *stage) { s.pidFile(s.qemu()); s.put(s.T, "st-running.xml", "<domstatus") }},
	7:  {"gone", "killed", func(s *stage) { s.in(s.dead(), `state='running' reason='booted'`, "") }},
	8:  {"doubtful", "in another PID namespace every process seems to be gone", func(s *stage) { s.in(1<<30, `state='running' reason='booted'`, ""); s.noDaemon() }},
	9:  {"gone", "killed", func(s *stage) { s.pidFile(s.dead()) }},
	10: {"doubtful", "as 8", func(s *stage) { s.pidFile(1 << 30); s.noDaemon() }},
	11: {"gone", "libvirt has not waited for it yet", func(s *stage) { s.pidFile(s.zombie()) }},
	12: {"doubtful", "the zombie may be another process of the same number", func(s *stage) { s.pidFile(s.zombie()); s.noDaemon() }},
	13: {"gone", "the PID was used again", func(s *stage) { s.pidFile(guest(s.T, 0, "-uuid", otherUUID).Process.Pid) }},
	14: {"doubtful", "the process may be another one of the same number", func(s *stage) { s.pidFile(guest(s.T, 0, "-uuid", otherUUID).Process.Pid); s.noDaemon() }},
	15: {"doubtful", "two names that libvirt writes alike share a pid file", func(s *stage) { s.pidFile(guest(s.T, 0, "-uuid", otherUUID).Process.Pid); s.qemu() }},
	16: {"doubtful", "as 15", func(s *stage) { s.pidFile(guest(s.T, 0, "-uuid", otherUUID).Process.Pid); s.status(s.qemu()) }},
	17: {"alive", "a status file of an earlier run", func(s *stage) { s.pidFile(s.qemu()); s.status(s.dead()) }},
	18: {"gone", "files of two earlier runs", func(s *stage) { s.pidFile(s.dead()); s.status(s.dead()) }},
	19: {"gone", "a start that failed", func(s *stage) {}},
	20: {"doubtful", "the files may be another host's", func(s *stage) { s.noDaemon() }},
	21: {"doubtful", "libvirt starts QEMU before it writes the files", func(s *stage) { s.qemu() }},
	22: {"doubtful", "the pid file was removed", func(s *stage) { s.status(s.qemu()) }},
	23: {"gone", "libvirt removes the pid file first", func(s *stage) { s.status(s.dead()) }},
	24: {"doubtful", "as 8", func(s *stage) { s.status(1 << 30); s.noDaemon() }},
	25: {"doubtful", "the status file may name a living process", func(s *stage) { s.put(s.T, "st-running.xml", "<domstatus") }},
	26: {"doubtful", "the pid file may name a living process", func(s *stage) { s.put(s.T, "st-running.pid", "x") }},
	27: {"gone", "QEMU lingers, and only a stop ends it", func(s *stage) { s.in(s.qemu(), `state='shutdown' reason='unknown'`, ""); s.noDaemon() }},
	28: {"alive", "libvirt resets the guest next", func(s *stage) {
		s.in(s.qemu(), `state='shutdown' reason='unknown'`, "<fakereboot/>")
		s.socket()
		s.monitor()
	}},
	29: {"gone", "only a stop or a reset ends it", func(s *stage) { s.in(s.qemu(), `state='crashed' reason='panicked'`, ""); s.noDaemon() }},
	30: {"gone", "only a stop cleans up", func(s *stage) { s.in(s.qemu("-incoming", "defer"), broken, "<job type='none' async='migration in'/>") }},
	31: {"doubtful", "the source of a migration", func(s *stage) { s.in(s.qemu(), broken, "<job type='none' async='migration out'/>") }},
	32: {"alive", "a guest that starts from saved memory", func(s *stage) { s.in(s.qemu(), broken, "<job type='none' async='start'/>"); s.socket(); s.monitor() }},
	33: {"doubtful", "the client died between the last two calls: it may be the only copy", func(s *stage) { s.in(s.qemu(), broken, "") }},
	34: {"gone", "the client died before the guest arrived", func(s *stage) { s.incoming(false); s.log("") }},
	35: {"doubtful", "a guest that came by migration keeps the argument", func(s *stage) { s.incoming(true); s.log("") }},
	36: {"doubtful", "an idle guest may have taken little time", func(s *stage) {
		s.incoming(false)
		s.log("2026-11-28 06:50:29.576+0000: initiating migration\n")
	}},
	37: {"unknown", "libvirt may have another one", func(s *stage) { remove(s.T, s.Root+"/run/libvirt") }},
	38: {"alive", "a daemon that was restarted has not connected yet", func(s *stage) {
		s.in(s.qemu(), `state='running' reason='booted'`, "")
		s.socket()
		listen(s.T, s.Root+stageMonitor)
	}},
	39: {"doubtful", "without the log it is not sure that the guest did not begin to leave", func(s *stage) { s.incoming(false) }},
	40: {"gone", "the guest is off, and libvirt ends its process after the backup", func(s *stage) { s.in(s.qemu(), `state='paused' reason='shutdown'`, ""); s.noDaemon() }},
}

// log writes the domain's log from the start of an incoming migration on.
func (s *stage) log(more string) {
	must(s.T, os.MkdirAll(s.Root+logDir, 0o755))
	putFile(s.T, s.Root+logDir+"st-running.log", "2026-11-01 10:00:00.000+0000: starting up libvirt version: 9.0.0\n-incoming defer\n"+more)
}

// incoming starts a process that was started to receive a guest. Its virtual CPU is the thread of a
// process that has or has not run.
func (s *stage) incoming(hasRun bool) {
	pid := s.qemu("-incoming", "defer")
	if hasRun {
		pid = guest(s.T, 64, "-uuid", uuid, "-incoming", "defer", "busy").Process.Pid
	}
	s.in(pid, broken, "")
	s.status(pid, `state='running' reason='booted'`, broken, "pid='17881'", fmt.Sprintf("pid='%d'", s.idleThread(pid, hasRun)))
}

// idleThread returns a thread of a process that has or has not run.
func (s *stage) idleThread(pid int, hasRun bool) int {
	found := 0
	await(s.T, func() bool {
		threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		must(s.T, err)
		for _, entry := range threads {
			var thread int
			_, _ = fmt.Sscan(entry.Name(), &thread)
			if used, err := threadTime(pid, thread); err == nil && (used > idleTime) == hasRun {
				found = thread
				return true
			}
		}
		return false
	})
	return found
}

func TestEveryCellOfTheTableOfStates(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long")
	}
	if err := namedUnixSockets(func(UnixSocket) {}); err != nil {
		missing(t, "this kernel gives no socket table: %v", err)
	}
	table := documentedVerdicts(t)
	if len(table) != len(cells)-1 {
		t.Errorf("docs/liveness.md has %d rows, and %d are tested", len(table), len(cells)-1)
	}
	for n, c := range cells[1:] {
		n++
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			if table[n] != c.verdict {
				t.Errorf("docs/liveness.md says %q, want %q", table[n], c.verdict)
			}
			s := &stage{t, host(t)}
			c.arrange(s)
			p := s.Identify(s.Process("st-running"), uuid, freeID)
			got := p.Liveness.String()
			if p.Doubt != "" {
				got = "doubtful"
			}
			if got != c.verdict {
				t.Errorf("%s (%s), want %s because %s", got, p.Evidence, c.verdict, c.why)
			}
			if p.Gone() != (c.verdict == "gone") {
				t.Errorf("moot is %v", p.Gone())
			}
		})
	}
}

// documentedVerdicts returns the last column of the table in docs/liveness.md.
func documentedVerdicts(t *testing.T) map[int]string {
	t.Helper()
	data, err := os.ReadFile("../docs/liveness.md")
	must(t, err)
	verdicts := map[int]string{}
	for _, row := range regexp.MustCompile(`(?m)^\| (\d+) \|.*\| (\w+) \|$`).FindAllStringSubmatch(string(data), -1) {
		var n int
		_, err := fmt.Sscan(row[1], &n)
		must(t, err)
		verdicts[n] = row[2]
	}
	return verdicts
}

func TestTheDaemonIsToldByItsLock(t *testing.T) {
	h := hostWithoutDaemon(t)
	path := h.Root + "/run/libvirt/qemu/driver.pid"
	if d := h.daemon(); d.pid != 0 {
		t.Fatalf("%+v", d)
	}
	pid := testDaemon(t, "libvirtd")
	other := testDaemon(t, "nginx")
	for _, tt := range []struct {
		why, content string
		want         int
	}{
		{"its pid file names a process of its name", fmt.Sprintln(pid), pid},
		{"its pid file names another program: the PID was used again, or is another namespace's", fmt.Sprintln(other), 0},
		{"its pid file names no process", fmt.Sprintln(1 << 30), 0},
		{"its pid file is empty", "", 0},
		{"its pid file holds text", "libvirtd", 0},
	} {
		putFile(t, path, tt.content)
		if d := h.daemon(); d.pid != tt.want {
			t.Errorf("%s: %+v, want %d", tt.why, d, tt.want)
		}
	}
	t.Run("a daemon in a PID namespace below this one", func(t *testing.T) {
		putFile(t, path, "57\n") // the PID in its own namespace; here, another process may have it
		holder := testDaemon(t, "libvirtd", asHolder+"="+path)
		if d := h.daemon(); d.pid != 0 {
			t.Errorf("%+v", d)
		}
		putFile(t, path, fmt.Sprintln(pid)) // even if that is a libvirtd
		if d := h.daemon(); d.pid != 0 {
			t.Errorf("%+v", d)
		}
		putFile(t, path, fmt.Sprintln(holder))
		if d := h.daemon(); d.pid != holder {
			t.Errorf("%+v, want %d", d, holder)
		}
	})
	remove(t, path)
	must(t, syscall.Mkfifo(path, 0o600))
	began := time.Now()
	if d := h.daemon(); d.pid != 0 || time.Since(began) > 10*time.Second {
		t.Errorf("a FIFO: %+v", d)
	}
}

func TestAPIDFileIsFoundAsLibvirtNamesIt(t *testing.T) {
	pid := guest(t, 0, "-uuid", uuid).Process.Pid
	for _, tt := range []struct{ why, name, file string }{
		{"a control character that the escaping drops", "we\x01b", "web"},
		{"all that it drops", "a\x01\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19z", "az"},
		{"control characters that it keeps", "a\x1a\x1b\x1c\x1d\x1e\x1fz", "a\x1a\x1b\x1c\x1d\x1e\x1fz"},
		{"signs of XML beside them", "a\x01 & b", "a &amp; b"},
		{"a line feed and a tab", "a\nb\tc", "a\nb\tc"},
		{"a carriage return, which XML has as a line feed", "a\rb\r\nc", "a\rb\r\nc"},
	} {
		h := host(t)
		h.putPID(t, tt.file, pid)
		h.put(t, tt.name+".xml", strings.Replace(capture(t, "running", pid), "<name>st-running</name>", "<name>"+escapeXML(tt.name)+"</name>", 1))
		p := h.Process(tt.name)
		if p.Liveness != Alive || p.PID != pid {
			t.Errorf("%s: %+v", tt.why, p)
		}
		if p.Status.State == "" {
			t.Errorf("%s: the status file is not read: %+v", tt.why, p)
		}
	}
}

func escapeXML(name string) string { return pidName.Replace(withoutDropped(name)) }
