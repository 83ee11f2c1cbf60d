package hookproto

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"
)

// asLong is set besides asGuest: the child shows arguments of this many bytes, most of them empty,
// as every user's process may.
const asLong = "HOOKPROTO_TEST_ARGUMENTS"

// showArguments has the kernel show memory of this process as its arguments (PR_SET_MM_MAP), which
// needs no rights.
func showArguments(size int) error {
	const setMM, setMap = 35, 14
	memory, err := syscall.Mmap(-1, 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		return err
	}
	text, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return err
	}
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	field := func(n int) uint64 { // as proc_pid_stat(5) counts them
		v, _ := strconv.ParseUint(string(fields[n-3]), 10, 64)
		return v
	}
	brk, _, _ := syscall.RawSyscall(syscall.SYS_BRK, 0, 0, 0)
	begin := uint64(uintptr(unsafe.Pointer(&memory[0])))
	end := begin + uint64(size)
	var layout []byte
	for _, at := range []uint64{field(26), field(27), field(45), field(46), field(47), uint64(brk), field(28), begin, end, end, end, 0, 0xffffffff << 32} {
		layout = binary.NativeEndian.AppendUint64(layout, at)
	}
	if _, _, errno := syscall.RawSyscall6(syscall.SYS_PRCTL, setMM, setMap, uintptr(unsafe.Pointer(&layout[0])), uintptr(len(layout)), 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// longArguments starts a process with that many bytes of arguments.
func longArguments(t *testing.T, size int) {
	t.Helper()
	t.Setenv(asLong, strconv.Itoa(size))
	cmd := guest(t, 0)
	_ = os.Unsetenv(asLong)
	shown := make([]byte, 1)
	f, err := os.Open(fmt.Sprintf("/proc/%d/cmdline", cmd.Process.Pid))
	must(t, err)
	defer f.Close()
	if _, err := f.ReadAt(shown, int64(size)-1); err != nil {
		t.Fatal(err)
	}
}

// A process of any user's may show arguments without end. A domain that is gone is let go all the
// same, and in time. Arguments of many processes leave a doubt, which a ticket lifts, and do not
// take the time of the decision.
func TestLongArgumentsOfOthersKeepNoDomain(t *testing.T) {
	h := host(t)
	for range maxSearchedAll/maxCommandLine + 1 { // read whole, they would be too long
		longArguments(t, maxCommandLine)
	}
	longArguments(t, 1<<30)
	expect(t, h.Process("vm"), Gone, "there is no pid file")
	cmd := guest(t, 0, "-name", "-name", "guest=vm")
	expect(t, h.Process("vm"), Unknown, fmt.Sprintf("process %d runs the domain", cmd.Process.Pid))

	data, err := appendCommandLine(nil, cmd.Process.Pid, 8)
	if err != nil || len(data) != 8 {
		t.Errorf("%d bytes of at most 8: %v", len(data), err)
	}
	if testing.Short() {
		return
	}
	for range maxSearchedAll / maxSearched {
		longArguments(t, maxSearched)
	}
	expect(t, h.Process("gone"), Unknown, "their arguments are too long to look through")

	h.putPID(t, "reused", guest(t, 0, "-uuid", otherUUID).Process.Pid)
	p := h.Identify(h.Process("reused"), uuid, 0)
	expect(t, p, Unknown, "the processes cannot be searched: their arguments are too long to look through")
	if strings.Contains(p.Doubt, "process 0") || p.PID != 0 {
		t.Errorf("a process that was not found is named: %+v", p)
	}
}
