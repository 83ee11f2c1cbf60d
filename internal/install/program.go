package install

import (
	"context"
	"debug/buildinfo"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stopguard/stopguard/internal/host"
)

// A use is the purpose of an installed program.
type use struct {
	flag     string
	name     string
	packages []string // its main packages in the module; a site's own programs have others
}

var (
	asHook = use{"--hook", "hook program", []string{"cmd/stopguard-hook", "examples/hook"}}
	asThin = use{"--thin", "thin hook program", []string{"cmd/stopguard-hook-thin", "examples/agent/hook"}}
	asGate = use{"--gate", "gate's program", []string{"cmd/stopguard-gate", "examples/gate"}}

	// programs are the module's own programs, which an operator may confuse. Earlier versions were
	// built from the packages under examples.
	programs = []use{
		asHook, asThin, asGate,
		{name: "agent", packages: []string{"cmd/stopguard-agent", "examples/agent"}},
		{name: "stopguard tool", packages: []string{"cmd/stopguard", "examples/stopguard"}},
	}
)

// trialTime bounds the first run of a program on a busy host. Only the operator waits for it.
const trialTime = 30 * time.Second

// check returns an error if a file is known not to be such a program. It makes the checks of doctor
// before the installation.
func (u use) check(h host.Host, file string) error {
	build := fmt.Sprintf("build the right one with: go build -o FILE ./%s, and name it with %s", u.packages[0], u.flag)
	if what := host.ProgramFault(file); what != "" {
		return fmt.Errorf("nothing was installed: %s %s; build it for this host, and name it with %s", file, what, u.flag)
	}
	if built, known := host.BuiltWith(file); known && !built {
		return fmt.Errorf("nothing was installed: %s is not made with stopguard; %s", file, build)
	}
	if info, err := buildinfo.ReadFile(file); err == nil {
		for _, p := range programs {
			relative, isOurs := strings.CutPrefix(info.Path, host.Module+"/")
			if p.flag != u.flag && isOurs && slices.Contains(p.packages, relative) {
				return fmt.Errorf("nothing was installed: %s is the %s, not the %s; %s", file, p.name, u.name, build)
			}
		}
	}
	absolute, err := filepath.Abs(file)
	if err != nil {
		return err
	}
	// Before the installation the file need not be executable. doctor runs a gate's own check after
	// the installation.
	if u.flag == asGate.flag || !h.OwnersOnly(absolute) || unix.Access(absolute, unix.X_OK) != nil {
		return nil
	}
	if what := h.Probe(context.Background(), trialTime, absolute); what != "" {
		return fmt.Errorf("nothing was installed: %s, run for an operation that a hook has nothing to do for, %s; %s", file, what, build)
	}
	return nil
}

func (i installer) readProgram(file string, u use) ([]byte, error) {
	if err := u.check(i.Host, file); err != nil {
		return nil, err
	}
	return os.ReadFile(file)
}
