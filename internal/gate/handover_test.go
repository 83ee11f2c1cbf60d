package gate

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stopguard/stopguard/internal/gate/call"
	"github.com/stopguard/stopguard/internal/gate/wire"
	"github.com/stopguard/stopguard/internal/testhost"
)

const (
	gateVariable = "STOPGUARD_TEST_GATE" // set if this binary is to be the gate
	patience     = 60 * time.Second
)

func TestMain(m *testing.M) {
	if os.Getenv(gateVariable) != "" {
		os.Exit(Main(os.Args))
	}
	os.Exit(m.Run())
}

// A process is a gate that runs, before a libvirtd that the test plays.
type process struct {
	*testing.T
	dir, program string
	cmd          *exec.Cmd
	log          *bufio.Scanner
	daemon       *net.UnixListener
}

func start(t *testing.T, options ...string) *process {
	t.Helper()
	dir := testhost.SocketDir(t)
	p := &process{T: t, dir: dir, program: filepath.Join(dir, "stopguard-gate")}
	p.install("/proc/self/exe")
	var err error
	p.daemon, err = net.ListenUnix("unix", &net.UnixAddr{Name: dir + "/up", Net: "unix"})
	must(t, err)
	t.Cleanup(func() { _ = p.daemon.Close() })
	p.cmd = exec.Command(p.program, append([]string{"-listen", dir + "/down", "-upstream", dir + "/up"}, options...)...)
	p.cmd.Env = append(os.Environ(), gateVariable+"=1", "STOPGUARD_ROOT="+dir)
	log, err := p.cmd.StderrPipe()
	must(t, err)
	p.log = bufio.NewScanner(log)
	must(t, p.cmd.Start())
	t.Cleanup(func() { _ = p.cmd.Process.Kill(); _ = p.cmd.Wait() })
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		info, err := os.Stat(dir + "/down")
		if err == nil && info.Mode().Perm() == 0o666 {
			return p
		}
		if time.Now().After(deadline) {
			t.Fatal("the gate does not listen")
		}
	}
}

// install puts a program where the gate's is, as a package does.
func (p *process) install(from string) {
	p.Helper()
	content, err := os.ReadFile(from)
	must(p.T, err)
	p.put(content)
}

func (p *process) put(content []byte) {
	p.Helper()
	// A child of another test would have the file open for writing, and it could not be run then.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	_ = os.Rename(p.program, p.program+".old") // what runs, if anything does, is there still by another name
	must(p.T, os.WriteFile(p.program+".new", content, 0o755))
	must(p.T, os.Rename(p.program+".new", p.program))
}

// says waits until the gate's log has a line with these words.
func (p *process) says(words string) {
	p.Helper()
	for p.log.Scan() {
		if strings.Contains(p.log.Text(), words) {
			return
		}
	}
	p.Fatalf("the gate never says %q", words)
}

func (p *process) reload() {
	p.Helper()
	must(p.T, p.cmd.Process.Signal(syscall.SIGHUP))
}

// connect returns both ends of a connection through the gate.
func (p *process) connect() (client, daemon net.Conn) {
	p.Helper()
	client, err := net.Dial("unix", p.dir+"/down")
	must(p.T, err)
	p.Cleanup(func() { _ = client.Close() })
	_, err = client.Write(frameOf(1))
	must(p.T, err)
	must(p.T, p.daemon.SetDeadline(time.Now().Add(patience)))
	daemon, err = p.daemon.Accept()
	must(p.T, err)
	p.Cleanup(func() { _ = daemon.Close() })
	p.arrives(daemon, frameOf(1))
	return client, daemon
}

// frameOf is a call of a procedure that needs no decision.
func frameOf(serial uint32) []byte {
	return wire.Frame(wire.Header{Program: call.Remote, Version: 1, Procedure: 157, Serial: serial}, make([]byte, 100))
}

func (p *process) arrives(at net.Conn, want []byte) {
	p.Helper()
	must(p.T, at.SetReadDeadline(time.Now().Add(patience)))
	got := make([]byte, len(want))
	if _, err := io.ReadFull(at, got); err != nil || !bytes.Equal(got, want) {
		p.Fatalf("%x arrives, %v", got, err)
	}
}

// works sends something both ways.
func (p *process) works(client, daemon net.Conn, serial uint32) {
	p.Helper()
	_, err := client.Write(frameOf(serial))
	must(p.T, err)
	p.arrives(daemon, frameOf(serial))
	_, err = daemon.Write(frameOf(serial))
	must(p.T, err)
	p.arrives(client, frameOf(serial))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestAnotherProgramTakesOverAsTheSameProcess(t *testing.T) {
	p := start(t)
	client, daemon := p.connect()
	half := frameOf(7)
	_, err := client.Write(half[:60]) // within a frame
	must(t, err)
	for n := range uint32(3) {
		p.reload()
		p.says("took over from the program before")
		if n == 0 {
			_, err = client.Write(half[60:])
			must(t, err)
			p.arrives(daemon, half)
		}
		p.works(client, daemon, 10+n)
		other, otherDaemon := p.connect()
		p.works(other, otherDaemon, 20)
	}
	must(t, p.cmd.Process.Signal(syscall.SIGTERM)) // it is that process still
	must(t, p.cmd.Wait())
	if _, err := os.Stat(p.dir + "/down"); err == nil {
		t.Error("its socket is left")
	}
}

func TestManyReloadsAtOnceEndNothing(t *testing.T) {
	t.Parallel()
	p := start(t)
	client, daemon := p.connect()
	for range 100 {
		p.reload()
		time.Sleep(5 * time.Millisecond) // so that some come while a program begins
	}
	p.works(client, daemon, 2)
	p.says("took over from the program before")
}

func TestAProgramThatCannotTakeOverDoesNot(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ why, program, says string }{
		{"it ends", "#!/bin/sh\necho no >&2\nexit 3\n", "cannot take over: exit status 3: no"},
		{"it is another", "#!/bin/sh\necho hello\n", "it is another program"},
		{"it is none", "none", "exec format error"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			t.Parallel()
			p := start(t)
			client, daemon := p.connect()
			p.put([]byte(tt.program))
			p.reload()
			p.says(tt.says)
			p.works(client, daemon, 2)
			other, otherDaemon := p.connect()
			p.works(other, otherDaemon, 3)
			p.install("/proc/self/exe")
			p.reload()
			p.says("took over from the program before")
			p.works(client, daemon, 4)
		})
	}
}

func TestAStateOfOtherSocketsIsNotTakenOver(t *testing.T) {
	sockets := []socket{{path: "/a"}, {path: "/b", readOnly: true}}
	good := state{Format: stateFormat, Sockets: []socketState{{Path: "/a"}, {Path: "/b", ReadOnly: true}}}
	for _, tt := range []struct {
		why    string
		change func(s *state)
		says   string
	}{
		{"it fits", func(*state) {}, ""},
		{"another format", func(s *state) { s.Format++ }, "another version's"},
		{"another path", func(s *state) { s.Sockets = []socketState{{Path: "/c"}, {Path: "/b", ReadOnly: true}} }, "other sockets"},
		{"one socket less", func(s *state) { s.Sockets = s.Sockets[:1] }, "other sockets"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			s := good
			tt.change(&s)
			f, err := s.file()
			must(t, err)
			fd, err := syscall.Dup(int(f.Fd()))
			must(t, err)
			must(t, f.Close())
			t.Setenv(stateVariable, strconv.Itoa(fd))
			_, err = takeOver(sockets)
			if tt.says == "" && err != nil || tt.says != "" && (err == nil || !strings.Contains(err.Error(), tt.says)) {
				t.Errorf("%v, want %q", err, tt.says)
			}
		})
	}
}

func TestHalvesOfCallsAreTakenOver(t *testing.T) {
	p := start(t)
	type half struct {
		client, daemon net.Conn
		destroy        []byte
		sent           int
	}
	var halves []half
	for _, more := range []int{0, 3_000, 100} {
		client, daemon := p.connect()
		h := half{client, daemon, p.destroy(bytes.Repeat([]byte{byte(more)}, more)), 0}
		h.sent = 30 + more/2
		_, err := client.Write(h.destroy[:h.sent])
		must(t, err)
		p.taken(client)
		halves = append(halves, h)
	}
	// One that has come but for the second of its two descriptors, each of which is behind it with
	// a byte.
	client, daemon := p.connect()
	h := half{client, daemon, p.destroy(nil), 0}
	h.destroy = slices.Insert(h.destroy, wire.HeaderSize, 0, 0, 0, 2)
	h.destroy[3] += 4
	h.destroy[19] = byte(wire.CallWithFDs)
	pass := func() {
		_, _, err := client.(*net.UnixConn).WriteMsgUnix([]byte{0}, unix.UnixRights(0), nil)
		must(t, err)
		h.sent++
	}
	_, err := client.Write(h.destroy)
	must(t, err)
	h.sent = len(h.destroy)
	h.destroy = append(h.destroy, 0, 0)
	pass()
	p.taken(client)
	for range 2 {
		p.reload()
		p.says("took over from the program before")
	}
	pass()
	for _, h := range append(halves, h) {
		_, err := h.client.Write(h.destroy[h.sent:])
		must(t, err)
		p.answer(h.daemon, p.question(h.daemon))
		p.arrives(h.daemon, h.destroy)
		p.works(h.client, h.daemon, 2)
	}
}

const uuid = "3c9e4d35-0b0b-4d05-8e0e-2f4d0f3b7a55"

// destroy is a call that is decided, with bytes behind what libvirtd reads of it.
func (p *process) destroy(more []byte) []byte {
	args, err := wire.AppendDomain(nil, "web-01", uuid)
	must(p.T, err)
	return wire.Frame(wire.Header{Program: call.Remote, Version: 1, Procedure: 12, Serial: 9}, append(args, more...))
}

// question waits for the gate's question for a domain's XML.
func (p *process) question(daemon net.Conn) []byte {
	p.Helper()
	question := make([]byte, wire.HeaderSize+28)
	must(p.T, daemon.SetReadDeadline(time.Now().Add(patience)))
	_, err := io.ReadFull(daemon, question)
	must(p.T, err)
	return question
}

// answer answers it. The domain is not QEMU's: about one that is off the gate would answer, and of
// one that runs ask the state.
func (p *process) answer(daemon net.Conn, question []byte) {
	p.Helper()
	h := wire.ReadHeader(question)
	h.Kind = wire.Reply
	_, err := daemon.Write(wire.Frame(h, wire.AppendString(nil, "<domain type='lxc'><name>web-01</name><uuid>"+uuid+"</uuid></domain>")))
	must(p.T, err)
}

// taken waits until the gate has read what a client has sent.
func (p *process) taken(client net.Conn) {
	p.Helper()
	raw, err := client.(*net.UnixConn).SyscallConn()
	must(p.T, err)
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		var left int
		must(p.T, raw.Control(func(fd uintptr) { left, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) }))
		must(p.T, err)
		if left == 0 {
			return
		}
		if time.Now().After(deadline) {
			p.Fatal("the gate does not read")
		}
	}
}

func TestAStopWaitsForTheDecisionOfACall(t *testing.T) {
	t.Parallel()
	for _, reloads := range []bool{false, true} {
		t.Run(fmt.Sprintf("during a reload: %t", reloads), func(t *testing.T) {
			t.Parallel()
			p := start(t)
			client, daemon := p.connect()
			destroy := p.destroy(nil)
			_, err := client.Write(destroy)
			must(t, err)
			question := p.question(daemon)
			if reloads {
				p.reload()
				p.says("a connection does not come to rest")
			}
			must(t, p.cmd.Process.Signal(syscall.SIGTERM))
			time.Sleep(100 * time.Millisecond) // that it is noticed; if it is not, the test shows less and passes
			p.answer(daemon, question)
			p.arrives(daemon, destroy)
			must(t, p.cmd.Wait())
			if n, err := client.Read(make([]byte, 1)); n > 0 || err == nil {
				t.Errorf("the connection does not end: %v", err)
			}
		})
	}
}
