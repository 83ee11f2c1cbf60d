package hookproto

import (
	"context"
	"os"
	"time"
)

// began is the earliest time that Go code can observe in the process. The initialisation of other
// packages is part of the same 2 s.
var began = time.Now()

// Main is a complete hook binary: it answers os.Args and stdin through h as [Run] does, bounds the
// process, and exits.
//
// The kernel kills the process after 3 s, whatever the Go runtime is doing. 640 MiB of memory are a
// fault, and 1 GiB (RLIMIT_DATA) kills the process. There are no core dumps. If the kernel refuses
// a limit, the stop is still decided: a fault would wedge a domain that is dead. File descriptors 1
// and 2 are /dev/null while h runs, and only the answer reaches stderr. Otherwise a trace of the Go
// runtime would appear as the reason of a refused stop, and output of h would become the next
// hook's stdin.
//
// A fault names the hook file: the value of STOPGUARD_HOOK, in which the shell front passes its own
// name, or os.Args[0]. If STOPGUARD_HOOK is set, Main also writes "stopguard: allow" to stderr for
// an allowed stop: a damaged program may end with a status of 0, too. The front does not pass that
// line on.
func Main(h Handler) {
	if !concerns(os.Args) {
		os.Exit(ExitAllow)
	}
	args := append([]string(nil), os.Args...)
	hook := os.Getenv("STOPGUARD_HOOK")
	if hook != "" {
		args[0] = hook
	}
	began := takeOver(began)
	stderr, exceeded := bound(began)
	self.began, self.stderr = began, stderr
	code := run(context.Background(), args, os.Stdin, stderr, h, began, exceeded)
	if hook != "" && code == ExitAllow && Op(args[2]) == OpStop {
		write(stderr, allowLine)
	}
	os.Exit(code)
}

// allowLine is the line that front.sh expects for an allowed stop.
const allowLine = "stopguard: allow\n"
