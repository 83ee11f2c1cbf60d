package hookproto

import (
	"errors"
	"math"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"syscall"
	"time"
	"unsafe"
)

const (
	killTime    = 3 * time.Second
	memoryKill  = 1 << 30   // bytes: RLIMIT_DATA; beyond it the Go runtime aborts
	memoryFault = 640 << 20 // bytes: beyond it the answer is a fault
	memoryGoal  = 512 << 20 // bytes: the limit that the garbage collector tries to keep
	growth      = 400       // percent: the garbage collector begins at 16 MiB, which most decisions do not reach
	sampleTime  = 2 * time.Millisecond
	firstSample = 20 * time.Millisecond // most decisions are done by then, and memory cannot grow that far in it
)

// bound limits this process. It returns the file for the answer and a channel that reports when
// memory runs out.
func bound(began time.Time) (*os.File, <-chan error) {
	killAfter(killTime - time.Since(began))
	lowerLimit(syscall.RLIMIT_CORE, 0)
	lowerLimit(syscall.RLIMIT_DATA, memoryKill)
	if debug.SetMemoryLimit(-1) > memoryGoal {
		debug.SetMemoryLimit(memoryGoal)
	}
	debug.SetGCPercent(growth)
	return takeStderr(), watchMemory()
}

// killAfter lets the kernel send SIGKILL. A watchdog in Go needs the Go scheduler, which does not
// run while the runtime is out of memory or stops the world.
func killAfter(d time.Duration) {
	const (
		clockMonotonic = 1
		sigevSignal    = 0
	)
	event := struct {
		value  uintptr
		signo  int32
		notify int32
		_      [64]byte // struct sigevent is 64 bytes; the rest is unused here
	}{signo: int32(syscall.SIGKILL), notify: sigevSignal}
	var id int32
	if _, _, errno := syscall.RawSyscall(syscall.SYS_TIMER_CREATE, clockMonotonic,
		uintptr(unsafe.Pointer(&event)), uintptr(unsafe.Pointer(&id))); errno != 0 {
		return
	}
	spec := struct{ interval, value syscall.Timespec }{
		value: syscall.NsecToTimespec(max(d, time.Millisecond).Nanoseconds()),
	}
	_, _, _ = syscall.RawSyscall6(syscall.SYS_TIMER_SETTIME, uintptr(id), 0, uintptr(unsafe.Pointer(&spec)), 0, 0, 0)
}

// lowerLimit does not change a limit that is lower already: it was set on purpose.
func lowerLimit(resource int, limit uint64) {
	var old syscall.Rlimit
	if syscall.Getrlimit(resource, &old) != nil {
		return
	}
	lower := syscall.Rlimit{Cur: min(old.Cur, limit), Max: min(old.Max, limit)}
	if lower != old {
		_ = syscall.Setrlimit(resource, &lower)
	}
}

// takeStderr moves stderr to a descriptor that only the answer is written to. A write to a closed
// pipe there is an error; on descriptors 1 and 2 Go would end the process. If no descriptor is
// free, stderr stays at 2.
func takeStderr() *os.File {
	null, err := syscall.Open("/dev/null", syscall.O_WRONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return os.Stderr
	}
	defer func() { _ = syscall.Close(null) }()
	const lowest = 3
	fd, _, errno := syscall.RawSyscall(syscall.SYS_FCNTL, 2, syscall.F_DUPFD_CLOEXEC, lowest)
	if errno != 0 {
		return os.Stderr
	}
	if syscall.Dup3(null, 2, 0) != nil {
		_ = syscall.Close(int(fd))
		return os.Stderr
	}
	// Otherwise the output of a Handler would be the next hook's stdin, in place of the domain XML.
	_ = syscall.Dup3(null, 1, 0)
	// Otherwise a crash of the runtime would exit with 2, as a fault does, without a line. If
	// SIGABRT ends the process, the shell front can report the crash.
	debug.SetTraceback("crash")
	return os.NewFile(fd, "stderr")
}

func watchMemory() <-chan error {
	exceeded := make(chan error, 1)
	go func() {
		time.Sleep(firstSample)
		samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
		for {
			metrics.Read(samples)
			if valueOf(samples[0])-valueOf(samples[1]) > memoryFault {
				exceeded <- errors.New("the decision took more than 640 MiB of memory; look for a rule that builds something huge")
				return
			}
			time.Sleep(sampleTime)
		}
	}()
	return exceeded
}

// valueOf returns a sample's value, or 0 if the runtime does not have the metric.
func valueOf(s metrics.Sample) int64 {
	if s.Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return int64(min(s.Value.Uint64(), math.MaxInt64))
}
