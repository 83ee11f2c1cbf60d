package hookproto

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// beganVariable passes the first program's start to the program that takes over, as PID:NANOSECONDS
// of CLOCK_MONOTONIC. exec does not change the PID, so the value is not valid for any other
// process.
const beganVariable = "STOPGUARD_BEGAN"

// self is the state of Main's process, for HandOver.
var self struct {
	began      time.Time
	stderr     *os.File // nil outside of Main
	isHandover bool     // the previous program handed over to this one
}

// HandOver replaces the process (execve(2)) by another hook program, which answers the event. The
// caller of the hook sees no difference. HandOver only returns, with a fault, if that fails. It
// allows a small hook program that settles the simple cases itself. It is for Handlers run by
// [Main].
//
// The program has the same arguments and environment, the real stderr, and the domain XML as stdin,
// even if [Event.XML] has read it. The bounds of its Main begin at the start of this one. After
// HandOver has failed, XML returns the bytes that were read before, and fails if there were none.
func HandOver(ctx context.Context, e *Event, program string) error {
	switch {
	case self.stderr == nil:
		return errors.New("only a program of hookproto.Main can hand over to another; report this as a bug")
	case self.isHandover:
		return fmt.Errorf("%s hands over to itself; install the full hook program there", program)
	}
	stdin, err := e.stdinCopy(ctx)
	if err != nil {
		return err
	}
	env := append(withoutBegan(os.Environ()), beganVariable+"="+beganNow(self.began))
	if stdin >= 0 {
		defer func() { _ = syscall.Close(stdin) }()
		if err := syscall.Dup3(stdin, 0, 0); err != nil {
			return fmt.Errorf("the domain XML cannot be handed over: %w; run the stop again", err)
		}
	}
	if ctx.Err() != nil {
		return errTooLate
	}
	err = execWith(self.stderr, program, env)
	return fmt.Errorf("%s cannot be started: %w; install it again", program, err)
}

// execWith restores the program's stderr, and takes it back if the program cannot be started.
func execWith(stderr *os.File, program string, env []string) error {
	fd := int(stderr.Fd())
	if fd != 2 {
		if err := syscall.Dup3(fd, 2, 0); err != nil {
			return err
		}
		defer func() {
			if null, err := syscall.Open("/dev/null", syscall.O_WRONLY|syscall.O_CLOEXEC, 0); err == nil {
				_ = syscall.Dup3(null, 2, 0)
				_ = syscall.Close(null)
			}
		}()
	}
	return syscall.Exec(program, os.Args, env)
}

// stdinCopy returns a descriptor with the bytes that were read from stdin, or -1 if stdin was not
// read and can be passed on as it is.
func (e *Event) stdinCopy(ctx context.Context) (int, error) {
	e.once.Do(func() { // keeps a reader that has not begun from beginning
		e.ended = make(chan struct{})
		e.err = errors.New("the event was handed over")
		close(e.ended)
	})
	if err := e.wait(ctx); err != nil {
		return -1, err
	}
	if len(e.read) == 0 {
		return -1, nil
	}
	return memoryFile(e.read)
}

// memfdCreate is the number of memfd_create(2), which package syscall does not define.
var memfdCreate = map[string]uintptr{
	"386": 356, "amd64": 319, "arm": 385, "arm64": 279, "loong64": 279, "mips": 4354, "mipsle": 4354, "mips64": 5314,
	"mips64le": 5314, "ppc64": 360, "ppc64le": 360, "riscv64": 279, "s390x": 350,
}[runtime.GOARCH]

// memoryFile returns a file in memory. A pipe would not do: it holds only 64 KiB until it is read.
func memoryFile(content []byte) (int, error) {
	const closeOnExec = 1
	name := [...]byte{'x', 'm', 'l', 0}
	fd, _, errno := syscall.Syscall(memfdCreate, uintptr(unsafe.Pointer(&name[0])), closeOnExec, 0)
	if errno != 0 {
		return -1, fmt.Errorf("the domain XML cannot be handed over: memfd_create: %w; run the stop again", errno)
	}
	file := int(fd)
	for at := 0; at < len(content); {
		n, err := syscall.Pwrite(file, content[at:], int64(at))
		if err == syscall.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			_ = syscall.Close(file)
			return -1, fmt.Errorf("the domain XML cannot be handed over: %w; look at the host's memory", err)
		}
		at += n
	}
	return file, nil
}

// takeOver returns the start of the program that handed over to this one, or own. It ignores a
// value that is in the future, older than any hook lives, or of another process: otherwise the
// environment could lengthen a bound.
func takeOver(own time.Time) time.Time {
	value, there := os.LookupEnv(beganVariable)
	if !there {
		return own
	}
	_ = os.Unsetenv(beganVariable) // children must not inherit it
	pid, at, _ := strings.Cut(value, ":")
	nanoseconds, err := strconv.ParseInt(at, 10, 64)
	if err != nil || pid != strconv.Itoa(os.Getpid()) {
		return own
	}
	ago := time.Duration(monotonic() - nanoseconds)
	if ago < time.Since(own) || ago > killTime {
		return own
	}
	self.isHandover = true
	return time.Now().Add(-ago)
}

func beganNow(began time.Time) string {
	return fmt.Sprintf("%d:%d", os.Getpid(), monotonic()-time.Since(began).Nanoseconds())
}

// monotonic returns CLOCK_MONOTONIC in nanoseconds, which package time does not export.
func monotonic() int64 {
	const clockMonotonic = 1
	var t syscall.Timespec
	_, _, _ = syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(&t)), 0)
	return t.Nano()
}

func withoutBegan(env []string) []string {
	var others []string
	for _, v := range env {
		if !strings.HasPrefix(v, beganVariable+"=") {
			others = append(others, v)
		}
	}
	return others
}
