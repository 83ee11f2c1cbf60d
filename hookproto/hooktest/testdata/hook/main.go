// Command hook keeps the contract, or breaks it in the one way that HOOK_DEFECT names.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/stopguard/stopguard/hookproto"
)

func main() {
	args := append(os.Args, "", "", "", "", "")[1:5]
	defects[os.Getenv("HOOK_DEFECT")](args[0], args[1])
	hookproto.Main(decide)
}

// decide protects one domain by name and another by a mark in its XML.
func decide(ctx context.Context, e *hookproto.Event) error {
	if e.Op != hookproto.OpStop {
		return nil
	}
	host := hookproto.Host{Root: os.Getenv("STOPGUARD_ROOT")}
	if _, err := os.Stat(host.Root + "/run/stopguard/shutting-down"); err == nil || host.Root != "" && host.Process(e.Domain).Gone() {
		return nil
	}
	if _, err := os.Stat(os.Getenv("HOOK_BROKEN")); err == nil {
		return errors.New("the policy cannot be read; repair it")
	}
	if e.Domain == "protected-vm" {
		return &hookproto.Veto{Reason: "on the list", Rule: "list"}
	}
	xml, err := e.XML(ctx)
	if err != nil {
		return err
	}
	if bytes.Contains(xml, []byte("urn:stopguard:protection:1")) {
		return &hookproto.Veto{Reason: "it is marked", Rule: "mark"}
	}
	if !bytes.Contains(xml, []byte("</domain>")) {
		return errors.New("this is no XML of a domain")
	}
	return nil
}

const stop, marked = "stop", "pg-primary-01"

func say(code int, format string, args ...any) {
	fmt.Fprintf(os.Stderr, format, args...)
	os.Exit(code)
}

const line = "stopguard: veto: pg-primary-01: "

// isMarked reports whether the call is a stop that the program without a defect refuses, on a host
// that is not the kit's own.
func isMarked(name, op string) bool {
	return os.Getenv("STOPGUARD_ROOT") == "" && name == marked && op == stop && len(os.Args) == 5 && os.Args[3] == "begin"
}

var defects = map[string]func(name, op string){
	"": func(string, string) { checkSurroundings() },
	"prints on reconnect": func(_, op string) {
		if op == "reconnect" {
			fmt.Fprintln(os.Stderr, "reconnected")
		}
	},
	"exits 1 on start": func(_, op string) {
		if op == "start" {
			os.Exit(1)
		}
	},
	"dies on started": func(_, op string) {
		if op == "started" {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
	},
	"exits 1 on all that it does not know": func(_, op string) {
		for _, o := range hookproto.Operations() {
			if string(o.Op) == op {
				return
			}
		}
		os.Exit(1)
	},
	"parses flags": func(string, string) {
		flag.CommandLine.Init("hook", flag.ContinueOnError)
		flag.CommandLine.SetOutput(os.Stdout)
		if err := flag.CommandLine.Parse(os.Args[1:]); err != nil {
			os.Exit(0)
		}
	},
	"takes help for a question": func(name, _ string) {
		if name == "--help" || name == "-h" {
			os.Exit(0)
		}
	},
	"leaves a child that holds stderr":  func(_, op string) { leave(op, "attach", os.Stderr, false) },
	"leaves a child that holds nothing": func(_, op string) { leave(op, "attach", nil, false) },
	"leaves a child of another session": func(_, op string) { leave(op, "attach", os.Stderr, true) },
	"prints XML on migrate": func(_, op string) {
		if op == "migrate" {
			fmt.Println("<domain/>")
			os.Exit(0)
		}
	},
	"reads stdin for prepare": func(_, op string) {
		if op == "prepare" {
			_, _ = io.Copy(io.Discard, os.Stdin)
		}
	},
	"hangs on a stop": func(_, op string) {
		if op == stop {
			time.Sleep(time.Hour)
		}
	},
	"prints to stdout on stop": func(_, op string) {
		if op == stop {
			fmt.Println("asked")
		}
	},
	"warns and allows": func(name, op string) {
		if name == "web-01" && op == stop {
			say(0, "stopguard: veto: web-01: just a warning\n")
		}
	},
	"prints two lines": func(name, op string) {
		if isMarked(name, op) {
			say(1, line+"it is marked\nand more\n")
		}
	},
	"prints an escape sequence": func(name, op string) {
		if isMarked(name, op) {
			say(1, line+"\x1b[31mit is marked\n")
		}
	},
	"prints 2 KiB": func(name, op string) {
		if isMarked(name, op) {
			say(1, "%s\n", line+strings.Repeat("x", 2048))
		}
	},
	"exits 3": func(name, op string) {
		if isMarked(name, op) {
			say(3, line+"it is marked\n")
		}
	},
	"prints the name as it is": func(name, op string) {
		if strings.ContainsAny(name, "\n\x1b") && op == stop {
			say(1, "stopguard: veto: %s: no\n", name)
		}
	},
	"refuses whatever its host says": func(name, op string) {
		if name == marked && op == stop && len(os.Args) == 5 && os.Args[3] == "begin" {
			say(1, line+"it is marked\n")
		}
	},
	"allows a stop without all of its arguments": func(_, op string) {
		if op == stop && len(os.Args) != 5 {
			os.Exit(0)
		}
	},
	"vetoes a name with a slash": func(name, op string) {
		if op == stop && strings.Contains(name, "/") {
			say(1, "stopguard: veto: x: no\n")
		}
	},
	"allows if it cannot say why not": func(name, op string) {
		if isMarked(name, op) {
			signal.Ignore(syscall.SIGPIPE)
			if _, err := os.Stderr.WriteString(line + "it is marked\n"); err != nil {
				os.Exit(0)
			}
			os.Exit(1)
		}
	},
	"allows what it cannot read": func(name, op string) {
		if isMarked(name, op) {
			time.AfterFunc(time.Second, func() { os.Exit(0) })
			if xml, _ := io.ReadAll(os.Stdin); !bytes.Contains(xml, []byte("</domain>")) {
				os.Exit(0)
			}
			say(1, line+"it is marked\n")
		}
	},
	"allows when its policy is broken": func(_, op string) {
		if _, err := os.Stat(os.Getenv("HOOK_BROKEN")); err == nil && op == stop && len(os.Args) == 5 && os.Args[3] == "begin" && !strings.Contains(os.Args[1], "/") && os.Args[1] != "" {
			os.Exit(0)
		}
	},
	"fails on release when its policy is broken": func(_, op string) {
		if _, err := os.Stat(os.Getenv("HOOK_BROKEN")); err == nil && op == "release" {
			os.Exit(2)
		}
	},
}

func leave(op, when string, stderr *os.File, session bool) {
	if op != when || len(os.Args) != 5 || os.Args[1] != marked || os.Args[3] != "begin" {
		return
	}
	child := exec.Command("/bin/sleep", "30")
	if stderr != nil {
		child.Stderr = stderr
	}
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: session}
	if err := child.Start(); err != nil {
		panic(err)
	}
	os.Exit(0)
}

// checkSurroundings exits unless the process has the surroundings that libvirt and the kit's own
// tests set up.
func checkSurroundings() {
	variables := 5
	if os.Getenv("STOPGUARD_ROOT") != "" {
		variables++
	}
	if len(os.Environ()) != variables || os.Getenv("HOME") != "/root" || os.Getenv("LC_ALL") != "C" {
		os.Exit(4)
	}
	if dir, err := os.Getwd(); err != nil || dir != "/" {
		os.Exit(5)
	}
	const several = 64
	for fd := 3; fd < several; fd++ {
		var stat syscall.Stat_t
		// The Go runtime does not open pipes for itself.
		if syscall.Fstat(fd, &stat) == nil && stat.Mode&syscall.S_IFMT == syscall.S_IFIFO {
			os.Exit(6)
		}
	}
}
