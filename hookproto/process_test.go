package hookproto

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	uuid      = "aa8e6271-5cee-4502-a7df-a116d6946308"
	otherUUID = "23dc214a-0c81-4bee-b3e5-5af36a2eee9d"
	asHolder  = "HOOKPROTO_TEST_LOCK"  // set besides asGuest: the file that the child locks
	asGuest   = "HOOKPROTO_TEST_GUEST" // in the environment of a child: behave as a QEMU would, with this many MiB
)

func TestMain(m *testing.M) {
	mib, err := strconv.Atoi(os.Getenv(asGuest))
	if err != nil {
		code := m.Run()
		hook.Remove()
		for _, remove := range daemons {
			remove()
		}
		os.Exit(code)
	}
	if mib > 0 {
		memory, err := syscall.Mmap(-1, 0, mib<<20, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON|syscall.MAP_POPULATE)
		if err != nil {
			fmt.Println("no memory:", err)
			os.Exit(1)
		}
		defer func() { _ = memory[0] }()
	}
	if size, err := strconv.Atoi(os.Getenv(asLong)); err == nil {
		if err := showArguments(size); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	if path := os.Getenv(asHolder); path != "" {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err == nil {
			err = syscall.FcntlFlock(f.Fd(), syscall.F_SETLK, &syscall.Flock_t{Type: syscall.F_WRLCK, Len: 1})
		}
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		defer func() { _ = f.Close() }()
	}
	if args := os.Args; args[len(args)-1] == "busy" {
		for end := time.Now().Add(200 * time.Millisecond); time.Now().Before(end); {
		}
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin) // until the test ends, even by a crash
}

// guest starts a process that looks like a QEMU with args. It is killed when the test ends.
func guest(t *testing.T, mib int, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), asGuest+"="+strconv.Itoa(mib))
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "ready\n" {
		t.Fatalf("the child is not ready: %q, %v", line, err)
	}
	return cmd
}

// daemons end the daemons that testDaemon has started, by name.
var daemons = map[string]func(){}

// testDaemon returns the process ID of a process with a daemon's name, which lives as long as the
// tests.
func testDaemon(t *testing.T, name string, env ...string) int {
	t.Helper()
	dir, err := os.MkdirTemp("", "daemon")
	must(t, err)
	must(t, os.Symlink(os.Args[0], dir+"/"+name))
	cmd := exec.Command(dir + "/" + name)
	cmd.Env = append(append(os.Environ(), asGuest+"=0"), env...)
	_, err = cmd.StdinPipe()
	must(t, err)
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "ready\n" {
		t.Fatalf("the daemon is not ready: %q, %v", line, err)
	}
	daemons[dir] = func() { _ = cmd.Process.Kill(); _ = cmd.Wait(); _ = os.RemoveAll(dir) }
	await(t, func() bool {
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", cmd.Process.Pid))
		return err == nil && string(comm) == name+"\n"
	})
	return cmd.Process.Pid
}

var libvirtd = sync.OnceValue(func() func(*testing.T) int {
	pid := 0
	return func(t *testing.T) int {
		if pid == 0 {
			pid = testDaemon(t, "libvirtd")
		}
		return pid
	}
})()

// host returns a host with an empty state directory and a libvirtd.
func host(t *testing.T) Host {
	t.Helper()
	h := hostWithoutDaemon(t)
	putFile(t, h.Root+"/run/libvirtd.pid", fmt.Sprintln(libvirtd(t)))
	return h
}

// hostWithoutDaemon returns a host with an empty state directory. Socket paths are short, and
// t.TempDir is not.
func hostWithoutDaemon(t *testing.T) Host {
	t.Helper()
	root, err := os.MkdirTemp("/tmp", "sg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	if err := os.MkdirAll(root+"/run/libvirt/qemu", 0o755); err != nil {
		t.Fatal(err)
	}
	return Host{Root: root}
}

func (h Host) put(t *testing.T, file, content string) {
	t.Helper()
	if err := os.WriteFile(h.Root+"/run/libvirt/qemu/"+file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (h Host) putPID(t *testing.T, name string, pid int) { h.put(t, name+".pid", fmt.Sprintln(pid)) }

// capture returns a real status file with another process ID and the given replacements.
func capture(t testing.TB, file string, pid int, replace ...string) string {
	t.Helper()
	data, err := os.ReadFile("../testdata/captures/status/" + file + ".xml")
	if err != nil {
		t.Fatal(err)
	}
	s := string(data)
	from := strings.Index(s, " pid='")
	to := from + strings.Index(s[from:], ">")
	return strings.NewReplacer(replace...).Replace(s[:from] + fmt.Sprintf(" pid='%d'", pid) + s[to:])
}

// freeID is a domain's number that no libvirt on this machine reaches: a socket's name is looked
// for by it in the machine's whole table.
const freeID = 2147480003

// captureFree is the capture of a running domain with freeID for its number.
func captureFree(t testing.TB, pid int, replace ...string) string {
	t.Helper()
	free := strings.NewReplacer("domain-3-", fmt.Sprintf("domain-%d-", freeID), " id='3'", fmt.Sprintf(" id='%d'", freeID))
	return strings.NewReplacer(replace...).Replace(free.Replace(capture(t, "running", pid)))
}

func expect(t *testing.T, p Process, life Liveness, seen string) {
	t.Helper()
	if p.Liveness != life || !strings.Contains(p.Evidence, seen) {
		t.Errorf("%v, %q; want %v, %q", p.Liveness, p.Evidence, life, seen)
	}
	if p.Gone() != (life == Gone) {
		t.Errorf("Gone is %t for %v", p.Gone(), life)
	}
	if strings.ContainsAny(p.Evidence, "\n\x00") {
		t.Errorf("more than one line: %q", p.Evidence)
	}
}

func TestAProcessOfWhichNothingIsKnownCountsAsAlive(t *testing.T) {
	if (Process{}).Gone() || Liveness(0) != Unknown {
		t.Error("the zero value is moot")
	}
	long := strings.Repeat("x", 300)
	for _, tt := range []struct {
		why, name string
		prepare   func(t *testing.T, h Host)
		life      Liveness
		seen      string
	}{
		{"no state directory", "vm", func(t *testing.T, h Host) { remove(t, h.Root+"/run") }, Unknown, "no such file"},
		{"a state directory that is a file", "vm", func(t *testing.T, h Host) {
			remove(t, h.Root+"/run/libvirt/qemu")
			putFile(t, h.Root+"/run/libvirt/qemu", "")
		}, Unknown, "not a directory"},
		{"no pid file", "vm", nil, Gone, "there is no pid file"},
		{"a pid file as libvirt names it for a name with signs of XML", `it's "odd", <so> & on`, func(t *testing.T, h Host) {
			h.putPID(t, "it&apos;s &quot;odd&quot;, &lt;so&gt; &amp; on", os.Getpid())
		}, Alive, "is alive"},
		{"a pid file that is named as the domain is", `a & b`, func(t *testing.T, h Host) { h.putPID(t, "a & b", os.Getpid()) }, Alive, "is alive"},
		{"a name with signs of XML and no pid file", `a & b`, nil, Gone, "there is no pid file"},
		{"an empty pid file", "vm", func(t *testing.T, h Host) { h.put(t, "vm.pid", "") }, Unknown, "no process id"},
		{"a pid file with text", "vm", func(t *testing.T, h Host) { h.put(t, "vm.pid", "1 2\n") }, Unknown, "no process id"},
		{"a negative pid", "vm", func(t *testing.T, h Host) { h.put(t, "vm.pid", "-1\n") }, Unknown, "no process id"},
		{"pid 0", "vm", func(t *testing.T, h Host) { h.put(t, "vm.pid", "0\n") }, Unknown, "no process id"},
		{"a pid beyond any", "vm", func(t *testing.T, h Host) { h.put(t, "vm.pid", "99999999999\n") }, Unknown, "no process id"},
		{"a huge pid file", "vm", func(t *testing.T, h Host) { h.put(t, "vm.pid", strings.Repeat("1", 1<<20)) }, Unknown, "larger than"},
		{"a link for a pid file", "vm", func(t *testing.T, h Host) {
			h.put(t, "real", fmt.Sprintln(os.Getpid()))
			must(t, os.Symlink("real", h.Root+"/run/libvirt/qemu/vm.pid"))
		}, Unknown, "symbolic links"},
		{"a link to nowhere", "vm", func(t *testing.T, h Host) {
			must(t, os.Symlink("nowhere", h.Root+"/run/libvirt/qemu/vm.pid"))
		}, Unknown, "symbolic links"},
		{"a FIFO for a pid file", "vm", func(t *testing.T, h Host) {
			must(t, syscall.Mkfifo(h.Root+"/run/libvirt/qemu/vm.pid", 0o600))
		}, Unknown, "not a regular file"},
		{"a directory for a pid file", "vm", func(t *testing.T, h Host) {
			must(t, os.Mkdir(h.Root+"/run/libvirt/qemu/vm.pid", 0o700))
		}, Unknown, "not a regular file"},
		{"a name too long for a file", long, nil, Unknown, "too long"},
		{"a name with a slash", "../qemu/vm", func(t *testing.T, h Host) { h.putPID(t, "vm", os.Getpid()) }, Unknown, "invalid"},
		{"a name with a NUL", "vm\x00", nil, Unknown, "invalid"},
		{"no name", "", nil, Unknown, "invalid"},
		{"a name of dots", "..", nil, Gone, "there is no pid file"},
		{"odd characters", "Müller's \"VM\" $(reboot) ✓\n", func(t *testing.T, h Host) { h.putPID(t, "Müller's \"VM\" $(reboot) ✓\n", os.Getpid()) }, Alive, "is alive"},
		{"a directory where older systems have it", "vm", func(t *testing.T, h Host) {
			must(t, os.Mkdir(h.Root+"/var", 0o755))
			must(t, os.Rename(h.Root+"/run", h.Root+"/var/run"))
		}, Gone, "there is no pid file"},
		{"a pid without a process", "vm", func(t *testing.T, h Host) { h.putPID(t, "vm", 1<<30) }, Gone, "is gone"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			h := host(t)
			if tt.prepare != nil {
				tt.prepare(t, h)
			}
			expect(t, h.Process(tt.name), tt.life, tt.seen)
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) { t.Helper(); must(t, os.RemoveAll(path)) }

func putFile(t *testing.T, path, content string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(content), 0o600))
}

func TestTheDeadAreLetGo(t *testing.T) {
	h := host(t)
	cmd := guest(t, 0, "-uuid", uuid)
	pid := cmd.Process.Pid
	h.putPID(t, "vm", pid)

	p := h.Process("vm")
	expect(t, p, Alive, fmt.Sprintf("process %d is alive", pid))
	if p.PID != pid || p.Start == 0 {
		t.Errorf("PID %d, Start %d", p.PID, p.Start)
	}
	expect(t, h.Identify(p, uuid, 0), Alive, "is alive")

	must(t, cmd.Process.Signal(syscall.SIGSTOP))
	await(t, func() bool { s, err := readStat(pid); return err == nil && s.state == 'T' })
	expect(t, h.Process("vm"), Alive, "is alive")
	expect(t, h.Identify(h.Process("vm"), uuid, 0), Alive, "is alive")

	must(t, cmd.Process.Kill())
	await(t, func() bool { return h.Process("vm").Evidence == fmt.Sprintf("process %d is a zombie", pid) })
	expect(t, h.Process("vm"), Gone, "is a zombie")
	expect(t, h.Identify(p, uuid, 0), Gone, "is a zombie")

	_ = cmd.Wait()
	expect(t, h.Process("vm"), Gone, "is gone")
	expect(t, h.Identify(p, uuid, 0), Gone, "is gone")
}

// Freeing a guest's memory takes long, and meanwhile the process is neither alive nor a zombie.
// Only a slow machine shows this state. No state between life and death may look alive again.
func TestALeavingProcessNeverComesBack(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 1 GiB of memory")
	}
	h := host(t)
	cmd := guest(t, 1024, "-uuid", uuid)
	h.putPID(t, "vm", cmd.Process.Pid)
	expect(t, h.Process("vm"), Alive, "is alive")
	must(t, cmd.Process.Kill())
	seen := map[string]int{}
	gone := false
	await(t, func() bool {
		p := h.Process("vm")
		seen[p.Evidence]++
		if gone && !p.Gone() {
			t.Errorf("came back: %q", p.Evidence)
		}
		gone = gone || p.Gone()
		return strings.HasSuffix(p.Evidence, "is a zombie")
	})
	t.Log(seen)
}

func await(t *testing.T, done func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !done(); {
		if time.Now().After(end) {
			t.Fatal("it does not happen")
		}
	}
}

// Start returns while the kernel is still within the exec, when the process does not have a command
// line yet.
func TestAProcessInAnExecIsNotLeaving(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long")
	}
	for range 1000 {
		cmd := exec.Command("sleep", "1000")
		cmd.Args[0] = uuid
		must(t, cmd.Start())
		got := Process{PID: cmd.Process.Pid, Liveness: Alive}.identify(uuid)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if got.Liveness != Alive {
			t.Fatalf("%s: %s", got.Liveness, got.Evidence)
		}
	}
}

func TestAReusedPIDIsNotTheDomain(t *testing.T) {
	h := host(t)
	for _, tt := range []struct {
		why  string
		args []string
		uuid string
		life Liveness
		seen string
	}{
		{"its own", []string{"-name", "guest=vm", "-uuid", uuid}, uuid, Alive, "is alive"},
		{"its own in capitals", []string{"-uuid", strings.ToUpper(uuid)}, uuid, Alive, "is alive"},
		{"another domain's", []string{"-uuid", otherUUID}, uuid, Gone, "is not this domain's"},
		{"no domain's", nil, uuid, Gone, "is not this domain's"},
		{"one that only mentions it", []string{"destroy " + uuid}, uuid, Gone, "is not this domain's"},
		{"where the XML has no UUID nothing can be compared", nil, "", Alive, "is alive"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			cmd := guest(t, 0, tt.args...)
			h.putPID(t, "vm", cmd.Process.Pid)
			expect(t, h.Identify(h.Process("vm"), tt.uuid, 0), tt.life, tt.seen)
		})
	}
	t.Run("a thread of the kernel", func(t *testing.T) {
		if data, err := os.ReadFile("/proc/2/cmdline"); err != nil || len(data) > 0 {
			t.Skip("there is none to see")
		}
		h.putPID(t, "vm", 2)
		expect(t, h.Identify(h.Process("vm"), uuid, 0), Gone, "has no command line left")
	})
	t.Run("another process since the first look", func(t *testing.T) {
		h.putPID(t, "vm", guest(t, 0, "-uuid", uuid).Process.Pid)
		p := h.Process("vm")
		p.Start--
		expect(t, h.Identify(p, uuid, 0), Gone, "its PID is another's now")
	})
	t.Run("one that is judged already", func(t *testing.T) {
		for _, p := range []Process{{}, {Liveness: Gone, PID: os.Getpid(), Evidence: "s"}, {Liveness: Unknown, PID: os.Getpid()}, {Liveness: Alive}} {
			if got := h.Identify(p, uuid, 1); got.Liveness != p.Liveness || got.Evidence != p.Evidence {
				t.Errorf("%+v became %+v", p, got)
			}
		}
	})
}

func TestALiveProcessIsNotALiveGuest(t *testing.T) {
	running := `<domstatus state='running' reason='booted'`
	pid := guest(t, 0, "-uuid", uuid).Process.Pid
	for _, tt := range []struct {
		why, file, replace, with string
		life                     Liveness
		seen                     string
	}{
		{"running", "running", "", "", Alive, "is alive"},
		{"paused by somebody", "paused-user", "", "", Alive, "is alive"},
		{"being backed up", "backup-running", "", "", Alive, "is alive"},
		{"being copied", "block-copy-running", "", "", Alive, "is alive"},
		{"powered off", "guest-powered-off-at-stop", "", "", Gone, "the guest is shut off (state shutdown)"},
		{"powered off during a backup that keeps its process", "guest-preserved-by-backup", "", "", Gone, "its process is kept for a backup (state paused, reason shutdown)"},
		{"booted anew from there", "guest-preserved-by-backup", "state='paused' reason='shutdown'", "state='running' reason='unpaused'", Alive, "is alive"},
		{"panicked, with on_crash preserve-running", "panicked-and-running", "", "", Alive, "is alive"},
		{"paused because it could not be resumed", "running", running, `<domstatus state='paused' reason='api error'`, Alive, "is alive"},
		{"panicked", "panicked-at-stop", "", "", Gone, "the guest has panicked (state crashed)"},
		{"off for any reason", "running", running, `<domstatus state='shutdown' reason='user'`, Gone, "state shutdown"},
		{"shut off as a state is another thing", "running", running, `<domstatus state='shutoff' reason='failed'`, Alive, "is alive"},
		{"crashed otherwise", "running", running, `<domstatus state='crashed' reason='unknown'`, Alive, "is alive"},
		{"paused for an I/O error", "running", running, `<domstatus state='paused' reason='ioerror'`, Alive, "is alive"},
		{"paused after copying", "running", running, `<domstatus state='paused' reason='postcopy'`, Alive, "is alive"},
		{"a panic that only metadata claims", "running", "<metadata>", `<metadata><domstatus state='crashed' reason='panicked'/>`, Alive, "is alive"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			h := host(t)
			status := capture(t, tt.file, pid, tt.replace, tt.with)
			name := between(status, "<name>", "</name>")
			h.putPID(t, name, pid)
			h.put(t, name+".xml", status)
			p := h.Process(name)
			expect(t, p, tt.life, tt.seen)
			if p.Status.Name != name {
				t.Errorf("the status is not there: %+v", p.Status)
			}
		})
	}
}

func between(s, from, to string) string {
	s = s[strings.Index(s, from)+len(from):]
	return s[:strings.Index(s, to)]
}

func TestAStatusFileOfAnotherIsNotTrusted(t *testing.T) {
	cmd := guest(t, 0, "-uuid", otherUUID)
	pid := cmd.Process.Pid
	off := func(replace ...string) string { return capture(t, "guest-powered-off-at-stop", pid, replace...) }
	for _, tt := range []struct {
		why     string
		prepare func(t *testing.T, h Host)
		life    Liveness
	}{
		{"it is this one's", func(t *testing.T, h Host) { h.put(t, "st-poweroff.xml", off()) }, Gone},
		{"there is none", func(*testing.T, Host) {}, Alive},
		{"of another process", func(t *testing.T, h Host) {
			h.put(t, "st-poweroff.xml", capture(t, "guest-powered-off-at-stop", 1<<30))
		}, Alive},
		{"of another domain", func(t *testing.T, h Host) {
			h.put(t, "st-poweroff.xml", off("<name>st-poweroff</name>", "<name>other</name>"))
		}, Alive},
		{"of two domains", func(t *testing.T, h Host) {
			h.put(t, "st-poweroff.xml", off("<uuid>", "<name>other</name><uuid>"))
		}, Alive},
		{"torn", func(t *testing.T, h Host) { h.put(t, "st-poweroff.xml", off()[:5000]) }, Alive},
		{"empty", func(t *testing.T, h Host) { h.put(t, "st-poweroff.xml", "") }, Alive},
		{"of another form", func(t *testing.T, h Host) {
			h.put(t, "st-poweroff.xml", off("<domstatus", "<x:domstatus xmlns:x='y'", "</domstatus", "</x:domstatus"))
		}, Alive},
		{"too deep", func(t *testing.T, h Host) {
			h.put(t, "st-poweroff.xml", off("<blockjobs active='no'/>", strings.Repeat("<a>", 300)+strings.Repeat("</a>", 300)))
		}, Alive},
		{"with metadata that only libvirt can read", func(t *testing.T, h Host) {
			h.put(t, "st-poweroff.xml", off("<metadata>", "<metadata><\U00020000 \U00020000='' a:b:c=''/>"))
		}, Gone},
		{"with metadata deeper than we go", func(t *testing.T, h Host) {
			h.put(t, "st-poweroff.xml", off("<metadata>", "<metadata>"+strings.Repeat("<a>", 300)+strings.Repeat("</a>", 300)))
		}, Gone},
		{"with metadata of any size", func(t *testing.T, h Host) {
			h.put(t, "st-poweroff.xml", off("<metadata>", "<metadata>"+strings.Repeat(" ", 4<<20)))
		}, Gone},
		{"a link", func(t *testing.T, h Host) {
			h.put(t, "real", off())
			must(t, os.Symlink("real", h.Root+"/run/libvirt/qemu/st-poweroff.xml"))
		}, Alive},
		{"a FIFO", func(t *testing.T, h Host) {
			must(t, syscall.Mkfifo(h.Root+"/run/libvirt/qemu/st-poweroff.xml", 0o600))
		}, Alive},
	} {
		t.Run(tt.why, func(t *testing.T) {
			h := host(t)
			h.putPID(t, "st-poweroff", pid)
			tt.prepare(t, h)
			p := h.Process("st-poweroff")
			expect(t, p, tt.life, "")
			if tt.life == Alive && p.Status.State != "" {
				t.Errorf("the status is there: %+v", p.Status)
			}
		})
	}
	t.Run("of another UUID", func(t *testing.T) {
		h := host(t)
		h.putPID(t, "st-running", pid)
		h.put(t, "st-running.xml", capture(t, "running", pid))
		p := h.Process("st-running")
		if p.Status.UUID != uuid {
			t.Fatalf("%+v", p.Status)
		}
		p = h.Identify(p, otherUUID, 0)
		expect(t, p, Alive, "")
		if p.Status.State != "" {
			t.Errorf("the status is there: %+v", p.Status)
		}
	})
}

func TestStatIsParsedFromTheLastParenthesis(t *testing.T) {
	const tail = " 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 1\n"
	for _, tt := range []struct {
		why, data string
		want      stat
		ending    string
	}{
		{"an ordinary one", "12 (qemu) S" + tail, stat{'S', 4194560, 987654}, ""},
		{"a name that looks like the rest", "12 (a) Z 1 (b) (c) ) R" + tail, stat{'R', 4194560, 987654}, ""},
		{"a name with a newline", "12 (a\n) Z) S" + tail, stat{'S', 4194560, 987654}, ""},
		{"a zombie", "12 (qemu) Z" + tail, stat{'Z', 4194560, 987654}, "is a zombie"},
		{"dead", "12 (qemu) X" + tail, stat{'X', 4194560, 987654}, "is dead"},
		{"dead, as older kernels write it", "12 (qemu) x" + tail, stat{'x', 4194560, 987654}, "is dead"},
		{"frozen", "12 (qemu) T" + tail, stat{'T', 4194560, 987654}, ""},
		{"on its way out", "12 (qemu) R 1 1 1 0 -1 4194564 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 1", stat{'R', 4194564, 987654}, "is exiting"},
		{"cut off", "12 (qemu) Z 1 1", stat{}, ""},
		{"empty", "", stat{}, ""},
		{"no numbers", "12 (qemu) S 1 1 1 0 -1 x 1 2 3 4 5 6 7 8 20 0 1 0 y 1 1", stat{}, ""},
	} {
		t.Run(tt.why, func(t *testing.T) {
			got, err := parseStat([]byte(tt.data))
			if got != tt.want || (err != nil) != (tt.want == stat{}) || got.ending() != tt.ending {
				t.Errorf("%+v, %v, %q", got, err, got.ending())
			}
		})
	}
}

func TestGuestsAreThoseWithALiveProcess(t *testing.T) {
	h := host(t)
	pid := guest(t, 0, "-uuid", uuid).Process.Pid
	add := func(name, status string, pid int) {
		h.putPID(t, name, pid)
		h.put(t, name+".xml", strings.ReplaceAll(strings.ReplaceAll(status, "st-running", name), "st-poweroff", name))
	}
	add("a", capture(t, "running", pid), pid)
	add("a-running", capture(t, "running", pid), pid)
	add("b-off", capture(t, "guest-powered-off-at-stop", pid), pid)
	add("c-reused", capture(t, "running", pid, uuid, otherUUID), pid)
	add("d-torn", capture(t, "running", pid)[:300], pid)
	add("e-dead", capture(t, "running", 1<<30), 1<<30)
	h.put(t, "f-nopid.xml", capture(t, "running", pid))
	h.put(t, "g-badpid.pid", "x")
	h.put(t, "g-badpid.xml", capture(t, "running", pid))
	add("h-stale", capture(t, "running", 1<<30), pid)
	h.putPID(t, "i-nostatus", pid) // as for a moment while it is started
	h.put(t, ".xml", "")
	must(t, os.Mkdir(h.Root+"/run/libvirt/qemu/dbus", 0o700))

	guests, err := h.Guests()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, g := range guests {
		got = append(got, fmt.Sprintf("%s %v %t %t", g.Name, g.Process.Liveness, len(g.XML) > 0, g.Err != nil))
		if g.XML != nil && (!strings.HasPrefix(string(g.XML), "<domain ") || !strings.HasSuffix(string(g.XML), "</domain>")) {
			t.Errorf("%s: the XML is %.20q", g.Name, g.XML)
		}
	}
	want := "a alive true false, a-running alive true false, d-torn alive false true, f-nopid unknown false true, g-badpid unknown false true, h-stale alive false true"
	if strings.Join(got, ", ") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, ", "), want)
	}

	remove(t, filepath.Join(h.Root, "run"))
	if guests, err := h.Guests(); err == nil || !strings.Contains(err.Error(), h.Root+"/run/libvirt/qemu cannot be opened: no such file") {
		t.Errorf("%d guests without a state directory, and the error %v", len(guests), err)
	}
}

func TestACommandLineIsReadWhole(t *testing.T) {
	args := []string{"-name", "guest=a", "", strings.Repeat("x", 40<<10), "-uuid", uuid}
	cmd := guest(t, 0, args...)
	room := make([]byte, 0, 16)
	data, err := appendCommandLine(room, cmd.Process.Pid, maxCommandLine)
	must(t, err)
	if got := splitArguments(data); !slices.Equal(got, cmd.Args) {
		t.Errorf("%d arguments of %d bytes, want %d", len(got), len(data), len(cmd.Args))
	}
	if data, err := appendCommandLine(room, 1<<30, maxCommandLine); !errors.Is(err, fs.ErrNotExist) || cap(data) != cap(room) {
		t.Errorf("a missing process: %v, with room for %d bytes of %d", err, cap(data), cap(room))
	}
}
