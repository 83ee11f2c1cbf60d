// Command hook is a hook whose handler misbehaves as its environment names. Main's bounds can only
// be tested in a process of their own.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/stopguard/stopguard/hookproto"
)

var kept any

func main() {
	switch os.Getenv("HOOK_BEFORE") {
	case "lower limit":
		_ = syscall.Setrlimit(syscall.RLIMIT_DATA, &syscall.Rlimit{Cur: 300 << 20, Max: 400 << 20})
	case "no timers":
		const sigpending = 11 // RLIMIT_SIGPENDING
		_ = syscall.Setrlimit(sigpending, &syscall.Rlimit{})
	}
	handler := os.Getenv("HOOK_HANDLER")
	if then := os.Getenv("HOOK_THEN"); then != "" && os.Getenv("STOPGUARD_BEGAN") != "" {
		handler = then
	}
	hookproto.Main(handlers[handler])
}

// handOver hands over to the program that the environment names, after reading or printing first,
// as HOOK_FIRST names.
func handOver(ctx context.Context, e *hookproto.Event) error {
	switch os.Getenv("HOOK_FIRST") {
	case "read":
		if _, err := e.XML(ctx); err != nil && os.Getenv("HOOK_THEN") != "xml" {
			return err
		}
	case "reading":
		go e.XML(ctx)
		time.Sleep(100 * time.Millisecond)
	case "wait":
		time.Sleep(time.Second)
	}
	return hookproto.HandOver(ctx, e, os.Getenv("HOOK_NEXT"))
}

var handlers = map[string]hookproto.Handler{
	"hand-over": handOver,
	"hand-over-again": func(ctx context.Context, e *hookproto.Event) error {
		return hookproto.HandOver(ctx, e, os.Getenv("HOOK_NEXT"))
	},
	"arguments": func(_ context.Context, e *hookproto.Event) error {
		_, there := os.LookupEnv("STOPGUARD_BEGAN")
		return fmt.Errorf("%q %v", os.Args, there)
	},
	"allow": func(context.Context, *hookproto.Event) error { return nil },
	"veto": func(context.Context, *hookproto.Event) error {
		return &hookproto.Veto{Reason: "protected", Rule: "protected_list"}
	},
	"xml": func(ctx context.Context, e *hookproto.Event) error {
		xml, err := e.XML(ctx)
		if err != nil {
			return err
		}
		return fmt.Errorf("read %d bytes", len(xml))
	},
	"noise": func(context.Context, *hookproto.Event) error {
		fmt.Println("noise on stdout")
		fmt.Fprintln(os.Stderr, "noise on stderr")
		println("noise of the runtime")
		return &hookproto.Veto{Reason: "protected"}
	},
	"panic": func(context.Context, *hookproto.Event) error { panic("oh\nno") },
	"other-goroutine": func(context.Context, *hookproto.Event) error {
		go panic("elsewhere")
		select {}
	},
	"double": func(context.Context, *hookproto.Event) error {
		for s := "0123456789abcdef"; ; s += s {
			kept = s
		}
	},
	"grow": func(context.Context, *hookproto.Event) error {
		// It is not written to and grows in steps, or a busy machine would run out of time first.
		var all [][]byte
		for {
			all = append(all, make([]byte, 16<<20))
			kept = all
			time.Sleep(time.Millisecond)
		}
	},
	"at-once": func(context.Context, *hookproto.Event) error {
		kept = make([]byte, 4<<30)
		return nil
	},
	"busy": func(context.Context, *hookproto.Event) error {
		for i := 0; ; i++ {
			kept = i
		}
	},
	"blocked": func(context.Context, *hookproto.Event) error {
		_ = syscall.Pause()
		return nil
	},
	"stuck-runtime": func(context.Context, *hookproto.Event) error {
		// No Go code runs in a stopped process, as in a runtime that is stuck.
		_ = syscall.Kill(syscall.Getpid(), syscall.SIGSTOP)
		return nil
	},
	"limits": func(context.Context, *hookproto.Event) error {
		var data, core syscall.Rlimit
		if err := errors.Join(syscall.Getrlimit(syscall.RLIMIT_DATA, &data), syscall.Getrlimit(syscall.RLIMIT_CORE, &core)); err != nil {
			return err
		}
		return fmt.Errorf("data %d %d core %d %d", data.Cur>>20, data.Max>>20, core.Cur, core.Max)
	},
}
