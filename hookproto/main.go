package hookproto

import (
	"context"
	"os"
	"time"
)

// began is as near to the start of the process as Go code gets: what other packages
// initialise comes out of the same 2 s.
var began = time.Now()

// Main is a whole hook binary: it answers os.Args and stdin through h as [Run] does, with
// the process itself bounded, and ends the process.
//
// The bounds: the kernel kills the process after 3 s, whatever the Go runtime is doing;
// 640 MiB of memory are a fault, and 1 GiB (RLIMIT_DATA) kills it; there are no core dumps.
// The first of each pair is this process's own and the second the kernel's, so if the kernel
// refuses one, the stop is still decided: a fault there would wedge a domain that is dead.
// File descriptors 1 and 2 are /dev/null while h runs, and only the answer reaches stderr: a
// trace of the Go runtime would come out as the reason of a refused stop, and what is printed
// to stdout as the next hook's stdin.
//
// The hook file that a fault names is os.Args[0], or what STOPGUARD_HOOK holds, with which
// the shell front passes on its own name. To the front, and to nobody else, an allowed stop is
// said in words too, "stopguard: allow" on stderr: a status of 0 is also what a damaged program
// may end with. The front keeps that line to itself.
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

// allowLine is what front.sh looks for.
const allowLine = "stopguard: allow\n"
