//go:build e2e

package e2e

import (
	_ "embed"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stopguard/stopguard/internal/e2ehost"
)

// These tests replace the gate's program during other actions. The guests are not protected: the
// decision is not the subject.
var (
	talking  = e2ehost.Guest{Name: "console-01", UUID: "5b4d5b3c-6f53-4b8a-8a5e-9f7f6b6a0d01"}
	copied   = e2ehost.Guest{Name: "copied-01", UUID: "5b4d5b3c-6f53-4b8a-8a5e-9f7f6b6a0d02"}
	freezing = e2ehost.Guest{Name: "saved-01", UUID: "5b4d5b3c-6f53-4b8a-8a5e-9f7f6b6a0d03"}
	leaving  = e2ehost.Guest{Name: "leaving-01", UUID: "5b4d5b3c-6f53-4b8a-8a5e-9f7f6b6a0d04"}
	arriving = e2ehost.Guest{Name: "arriving-01", UUID: "5b4d5b3c-6f53-4b8a-8a5e-9f7f6b6a0d05"}
	halfway  = e2ehost.Guest{Name: "halfway-01", UUID: "5b4d5b3c-6f53-4b8a-8a5e-9f7f6b6a0d06"}
)

//go:embed console.py
var consoleProgram string

const (
	tookOver      = "took over from the program before"
	thereLog      = "/run/dst.log"
	thereGate     = "/run/dst-gate.pid"
	thereDirect   = "qemu:///system?socket=/run/dst-up/libvirt-sock"
	busyDiskSize  = 16 << 20
	busyCountedAt = "0x500"
)

// busySector is a guest that cannot be moved quickly. It fills 47 MiB, and at each of the BIOS's
// ticks increments the counter at 0x500 and writes to every page of 2 MiB. It echoes its serial
// port.
var busySector = []byte{
	0xfa,       // cli
	0x31, 0xc0, // xor ax, ax
	0x8e, 0xd8, // mov ds, ax
	0x0f, 0x01, 0x16, 0x8f, 0x7c, // lgdt [0x7c8f]
	0x0f, 0x20, 0xc0, // mov eax, cr0
	0x0c, 0x01, // or al, 1: protected, for as long as it takes
	0x0f, 0x22, 0xc0, // mov cr0, eax
	0xbb, 0x08, 0x00, // mov bx, 8
	0x8e, 0xe3, // mov fs, bx: it reaches all of the memory, also when it is
	0x24, 0xfe, // and al, 0xfe
	0x0f, 0x22, 0xc0, // mov cr0, eax: not protected any more
	0xfb,                               // sti
	0x66, 0xb9, 0x00, 0x00, 0x10, 0x00, // mov ecx, 0x100000

	// fill (0x23)
	0x64, 0x67, 0x66, 0x89, 0x09, // mov fs:[ecx], ecx
	0x66, 0x81, 0xc1, 0x00, 0x10, 0x00, 0x00, // add ecx, 0x1000
	0x66, 0x81, 0xf9, 0x00, 0x00, 0x00, 0x03, // cmp ecx, 0x3000000
	0x72, 0xeb, // jb fill

	// loop (0x38)
	0xf4,                         // hlt
	0x66, 0xff, 0x06, 0x00, 0x05, // inc dword [0x500]
	0x66, 0xb9, 0x00, 0x00, 0x10, 0x00, // mov ecx, 0x100000

	// dirty (0x44)
	0x64, 0x67, 0x66, 0xff, 0x01, // inc dword fs:[ecx]
	0x66, 0x81, 0xc1, 0x00, 0x10, 0x00, 0x00, // add ecx, 0x1000
	0x66, 0x81, 0xf9, 0x00, 0x00, 0x30, 0x00, // cmp ecx, 0x300000
	0x72, 0xeb, // jb dirty

	// serial (0x59)
	0xbe, 0xd0, 0x07, // mov si, 2000: so often it looks before it halts
	// poll (0x5c)
	0xba, 0xfd, 0x03, // mov dx, 0x3fd
	0xec,       // in al, dx
	0xa8, 0x01, // test al, 1: has a byte come?
	0x75, 0x05, // jnz echo
	0x4e,       // dec si
	0x75, 0xf5, // jnz poll
	0xeb, 0xcf, // jmp loop

	// echo (0x69)
	0xba, 0xf8, 0x03, // mov dx, 0x3f8
	0xec,       // in al, dx
	0x88, 0xc3, // mov bl, al
	0xba, 0xfd, 0x03, // mov dx, 0x3fd
	// room (0x72)
	0xec,       // in al, dx
	0xa8, 0x20, // test al, 0x20: is there room?
	0x74, 0xfb, // jz room
	0x88, 0xd8, // mov al, bl
	0xba, 0xf8, 0x03, // mov dx, 0x3f8
	0xee,       // out dx, al
	0xeb, 0xda, // jmp serial

	// the segments (0x7f): an empty one, and one of all memory
	0, 0, 0, 0, 0, 0, 0, 0,
	0xff, 0xff, 0, 0, 0, 0x92, 0xcf, 0,
	15, 0, 0x7f, 0x7c, 0, 0, // where they are (0x8f)
}

// busy defines and starts a guest that runs busySector, and waits until it counts.
func (h *host) busy(g e2ehost.Guest) {
	h.Doing = g.Name + " is started"
	file := h.Write(g)
	disk := make([]byte, busyDiskSize)
	for i := range disk {
		disk[i] = byte(i>>12) | 1
	}
	copy(disk, make([]byte, 512))
	copy(disk, busySector)
	disk[510], disk[511] = 0x55, 0xaa
	h.File(g.Disk(), string(disk), 0o644)
	xml, rest, _ := strings.Cut(strings.Replace(g.XML(), "<memory unit='MiB'>32<", "<memory unit='MiB'>64<", 1), "<serial ")
	_, rest, _ = strings.Cut(rest, "</serial>")
	h.File(file, xml+"<serial type='pty'/>"+rest, 0o644)
	h.DirectOK("define", file)
	h.DirectOK("start", g.Name)
	h.Until("it counts", func() bool { return h.count(e2ehost.Direct, g) > 1 })
}

// count returns a guest's counter; 0 if the guest does not answer.
func (h *host) count(uri string, g e2ehost.Guest) int {
	got := h.Command("", h.Environment(), "virsh", "-c", uri, "qemu-monitor-command", "--hmp", g.Name, "xp /1wd "+busyCountedAt)
	_, number, _ := strings.Cut(strings.TrimSpace(got.Stdout), ": ")
	n, _ := strconv.Atoi(strings.TrimSpace(number))
	return n
}

// startVirsh runs virsh through the gate in the background. answer waits for it.
func (h *host) startVirsh(args ...string) (answer func() e2ehost.Answer) {
	c := make(chan e2ehost.Answer, 1)
	go func() {
		c <- h.CommandWithin(3*e2ehost.Patience, "", h.Environment(), "virsh", append([]string{"-c", "qemu:///system"}, args...)...)
	}()
	return func() e2ehost.Answer { return <-c }
}

// replace has a gate's program replaced by itself.
func (h *host) replace(pid int, log string) {
	times := func() int { return strings.Count(h.Read(log), tookOver) }
	before := times()
	h.Signal(pid, syscall.SIGHUP)
	h.Until("another program takes over", func() bool { return times() > before })
}

func (h *host) renewHere()  { h.replace(h.Gate.Process.Pid, e2ehost.GateLog) }
func (h *host) renewThere() { h.replace(h.PID(thereGate), thereLog) }

func (h *host) reload() {
	h.begin()
	h.Doing = "the other host is started"
	h.Run("ip", "link", "set", "lo", "up")
	script := strings.Replace(destination, "libvirt-sock &\n", "libvirt-sock &\necho $! >"+thereGate+"\n", 1)
	// After the switch of a migration with --postcopy, QEMU catches the kernel's faults. If users
	// may not (vm.unprivileged_userfaultfd), root may if it keeps its capabilities. The disk's
	// owner then differs from the one here, which the two daemons would detect by the owner that
	// they remember at the file.
	script = strings.Replace(script, "namespaces = []\n", "namespaces = []\nuser = \"root\"\nclear_emulator_capabilities = 0\nremember_owner = 0\n", 1)
	h.File("/run/dst.sh", script, 0o600)
	h.Run("sh", "-c", "export "+e2ehost.GateVariable+"="+os.Getenv(e2ehost.GateVariable)+"; unshare -m -u sh /run/dst.sh >"+thereLog+" 2>&1 &")
	h.Until("the other daemon answers", func() bool { return h.there("uri").Exit == 0 })
	for _, g := range []e2ehost.Guest{talking, copied, freezing, leaving, arriving, halfway} {
		h.busy(g)
	}
	h.jobs()
	h.moves()
	h.moveAfterTheSwitch()
}

// jobs has a console open, a disk copied and a guest saved while the gate is replaced.
func (h *host) jobs() {
	h.Doing = "a console is opened"
	h.File("/run/console.py", consoleProgram, 0o600)
	console := exec.Command("/usr/bin/python3", "/run/console.py")
	console.Env = h.Environment()
	var said strings.Builder
	console.Stdout, console.Stderr = &said, &said
	if err := console.Start(); err != nil {
		h.Fatalf("%v", err)
	}
	lines := func() int {
		content, _ := os.ReadFile("/run/console.count")
		n, _ := strconv.Atoi(string(content))
		return n
	}
	h.Until("the console gives lines back", func() bool { return lines() > 10 })

	h.Doing = "a disk is copied"
	const target = e2ehost.GuestDir + "/copy.img"
	copying := h.startVirsh("blockcopy", copied.Name, "hda", "--dest", target, "--format", "raw", "--bytes", "--bandwidth", "262144", "--transient-job", "--wait", "--finish")
	h.Until("it has begun", h.copies)

	h.Doing = "a guest is saved" // that is frozen, so that it takes as long as is needed
	h.Freeze(h.QEMU(freezing))
	save := h.startVirsh("save", freezing.Name, "/run/saved")
	h.Until("it has begun", func() bool {
		return strings.Contains(h.Read("/run/libvirt/qemu/"+freezing.Name+".xml"), "async='save'")
	})

	h.Doing = "the gate is replaced"
	for range 3 {
		before := lines()
		h.renewHere()
		h.Until("the console goes on", func() bool { return lines() > before+10 })
	}

	h.Doing = "what was begun is ended"
	h.File("/run/console.stop", "", 0o600)
	if err := console.Wait(); err != nil {
		h.Fatalf("%v: %s", err, said.String())
	}
	h.seen = append(h.seen, step{Name: "the console", State: strings.TrimSpace(said.String())})
	still := h.copies()
	h.VirshOK("blockjob", copied.Name, "hda", "--bandwidth", "1000")
	done := step{Name: "the copy", Through: copying(), State: "the same", Memory: unlessStill(still)}
	if cmp := h.Command("", h.Environment(), "cmp", copied.Disk(), target); cmp.Exit != 0 {
		done.State = cmp.Stdout + cmp.Stderr
	}
	h.seen = append(h.seen, done)
	frozen := strings.Contains(h.Read("/run/libvirt/qemu/"+freezing.Name+".xml"), "async='save'")
	h.Thaw(h.QEMU(freezing))
	h.seen = append(h.seen, step{Name: "the save", Through: save(), State: h.State(freezing), Memory: unlessStill(frozen)})
}

// copies reports whether the disk is being copied.
func (h *host) copies() bool {
	got := h.OnDirect("blockjob", copied.Name, "hda", "--info")
	return strings.Contains(got.Stdout+got.Stderr, "Block Copy: [") && !strings.Contains(got.Stdout+got.Stderr, "100")
}

// unlessStill returns a note if the action had ended before the gate was replaced: such a run
// proves nothing.
func unlessStill(underWay bool) string {
	if underWay {
		return ""
	}
	return "it had ended too soon; "
}

// underWay reports whether a guest is being moved.
func (h *host) underWay(g e2ehost.Guest) bool {
	got := h.Virsh("domjobinfo", g.Name).Stdout
	return strings.Contains(got, "Outgoing migration") && strings.Contains(got, "Iteration")
}

// move begins to move a guest: so slowly that it would take for ever, until its speed is set.
func (h *host) move(g e2ehost.Guest, args ...string) (answer func() e2ehost.Answer) {
	answer = h.startVirsh(append([]string{"migrate", "--live", "--unsafe", "--bandwidth", "1", g.Name, toGate, "tcp://127.0.0.1"}, args...)...)
	if !h.Within(e2ehost.Patience, func() bool { return h.underWay(g) }) {
		h.Fatalf("it does not begin: %+v; %+v", h.Virsh("domjobinfo", g.Name), answer())
	}
	return answer
}

// observeMove records a guest's state after its move, and waits until it counts again.
func (h *host) observeMove(name string, g e2ehost.Guest, answer func() e2ehost.Answer, before int, underWay bool) {
	got := answer()
	s := step{Name: name, Through: got, State: h.State(g), Direct: h.there("domstate", "--reason", g.Name), Memory: unlessStill(underWay)}
	if got.Exit == 0 {
		first := h.count(thereDirect, g)
		if first < before {
			s.Memory += "it has begun again"
		}
		h.Until("it counts there", func() bool { return h.count(thereDirect, g) > first+2 })
	}
	h.seen = append(h.seen, s)
}

func (h *host) moves() {
	for _, m := range []struct {
		name    string
		g       e2ehost.Guest
		replace []func()
	}{
		{"a move, and here is another program", leaving, []func(){h.renewHere, h.renewHere}},
		{"a move, and there is another program", arriving, []func(){h.renewThere, h.renewThere}},
	} {
		h.Doing = m.name
		before := h.count(e2ehost.Direct, m.g)
		answer := h.move(m.g)
		for _, replace := range m.replace {
			replace()
		}
		still := h.underWay(m.g)
		h.VirshOK("migrate-setspeed", m.g.Name, "1000")
		h.observeMove(m.name, m.g, answer, before, still)
	}
}

// moveAfterTheSwitch moves a guest that runs there before all of its memory is there.
func (h *host) moveAfterTheSwitch() {
	const name = "a move with --postcopy, and both are other programs"
	h.Doing = name
	before := h.count(e2ehost.Direct, halfway)
	answer := h.move(halfway, "--postcopy", "--postcopy-bandwidth", "1")
	h.renewHere()
	h.VirshOK("migrate-postcopy", halfway.Name)
	switched := func() bool {
		return strings.HasPrefix(h.State(halfway), "paused (post-copy)") &&
			strings.TrimSpace(h.there("domstate", "--reason", halfway.Name).Stdout) == "running (post-copy)"
	}
	h.Until("it runs there", switched)
	h.renewHere()
	h.renewThere()
	still := switched()
	h.VirshOK("migrate-setspeed", "--postcopy", halfway.Name, "1000")
	h.observeMove(name, halfway, answer, before, still)
}

func TestWhatIsUnderWayGoesOnWhenTheGatesProgramIsReplaced(t *testing.T) {
	const away, there = "shut off (migrated)", "running (migrated)"
	want := []struct{ name, says, state, there, memory string }{
		{"the console", "", "ok", "", ""},
		{"the copy", "Successfully copied", "the same", "", ""},
		{"the save", "Domain 'saved-01' saved to /run/saved", "shut off (saved)", "", ""},
		{"a move, and here is another program", "", away, there, ""},
		{"a move, and there is another program", "", away, there, ""},
		{"a move with --postcopy, and both are other programs", "", away, there, ""},
	}
	seen := on(t, "reload")
	for i, w := range want {
		t.Run(w.name, func(t *testing.T) {
			s := seen[i]
			if s.Name != w.name || s.Through.Exit != 0 || !strings.Contains(s.Through.Stdout, w.says) {
				t.Errorf("%s: %+v", s.Name, s.Through)
			}
			if s.State != w.state || strings.TrimSpace(s.Direct.Stdout) != w.there {
				t.Errorf("here it is %s, there %+v", s.State, s.Direct)
			}
			if s.Memory != w.memory {
				t.Errorf("afterwards: %s", s.Memory)
			}
		})
	}
}
