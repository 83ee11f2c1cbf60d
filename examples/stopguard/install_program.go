package main

import (
	"context"
	"debug/buildinfo"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stopguard/stopguard/internal/hostfile"
)

// A use is what install takes a program for.
type use struct {
	flag    string
	name    string
	example string // its package in the examples; programs of a site's own have another path
}

var (
	asHook = use{"--hook", "hook program", "hook"}
	asThin = use{"--thin", "thin hook program", "agent/hook"}
	asGate = use{"--gate", "gate's program", "gate"}

	// programs are those of the examples, any of which is made with stopguard and may be named for another by a slip.
	programs = []use{asHook, asThin, asGate, {name: "agent", example: "agent"}, {name: "stopguard tool", example: "stopguard"}}
)

// trialTime is for a program that has never run on a host that may be busy: nobody waits for it but the operator.
const trialTime = 30 * time.Second

// check is an error if a file is known not to be such a program. It is looked at as doctor does when it is installed.
func (u use) check(h host, file string) error {
	build := fmt.Sprintf("build the right one with: go build -o FILE ./examples/%s, and name it with %s", u.example, u.flag)
	if what := programFault(file); what != "" {
		return fmt.Errorf("nothing was installed: %s %s; build it for this host, and name it with %s", file, what, u.flag)
	}
	if built, known := builtWith(file); known && !built {
		return fmt.Errorf("nothing was installed: %s is not made with stopguard; %s", file, build)
	}
	if info, err := buildinfo.ReadFile(file); err == nil {
		for _, p := range programs {
			if p != u && info.Path == module+"/examples/"+p.example {
				return fmt.Errorf("nothing was installed: %s is the %s, not the %s; %s", file, p.name, u.name, build)
			}
		}
	}
	absolute, err := filepath.Abs(file)
	if err != nil {
		return err
	}
	// Where it lies it need not be executable. A gate is asked by doctor, when it is in its place.
	if u == asGate || !h.ownersOnly(absolute) || unix.Access(absolute, unix.X_OK) != nil {
		return nil
	}
	d := doctor{host: h, patience: trialTime}
	if what := d.probe(context.Background(), absolute); what != "" {
		return fmt.Errorf("nothing was installed: %s, run for an operation that a hook has nothing to do for, %s; %s", file, what, build)
	}
	return nil
}

// ownersOnly reports whether nobody but its owner can change a program that is not in its place yet, and so
// whether root may run it.
func (h host) ownersOnly(file string) bool {
	resolved, err := filepath.EvalSymlinks(file)
	if err != nil {
		return false
	}
	root := hostfile.Root("")
	if inside, ok := strings.CutPrefix(resolved, h.root+"/"); ok && h.root != "" {
		root, resolved = hostfile.Root(h.root), "/"+inside
	}
	_, err = root.Read(resolved, maxProgram)
	return err == nil
}

func (h host) readProgram(file string, u use) ([]byte, error) {
	if err := u.check(h, file); err != nil {
		return nil, err
	}
	return os.ReadFile(file)
}
