package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// The timeouts of systemctl. A job waits until a daemon has stopped and started.
const (
	questionTime = 10 * time.Second
	jobTime      = 5 * time.Minute
)

// questions are the commands of systemctl that do not change anything.
var questions = []string{"is-active", "is-system-running", "show"}

func systemctl() func(...string) (string, error) {
	program, err := exec.LookPath("systemctl")
	if _, missing := os.Stat("/run/systemd/system"); err != nil || missing != nil {
		return nil
	}
	return func(args ...string) (string, error) {
		limit := jobTime
		if slices.Contains(questions, args[0]) {
			limit = questionTime
		}
		return runSystemctl(program, limit, args...)
	}
}

func runSystemctl(program string, limit time.Duration, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "TZ=UTC", "LC_ALL=C")
	cmd.WaitDelay = time.Second // its children may keep its output open
	out, err := cmd.Output()
	exit, exited := errors.AsType[*exec.ExitError](err)
	switch {
	case err != nil && ctx.Err() != nil:
		err = fmt.Errorf("systemd did not answer within %v; look at journalctl -b _PID=1 and systemctl list-jobs, and try again", limit)
	case exited && len(exit.Stderr) > 0:
		err = errors.New(strings.TrimSpace(string(exit.Stderr)))
	}
	if err != nil {
		err = fmt.Errorf("systemctl %s: %w", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), err
}

// SystemdAnswers returns an error if systemd does not answer. Otherwise a host whose systemd hangs
// would look as if its units were not active.
func (h Host) SystemdAnswers() error {
	_, err := h.Systemctl("show", "--property=Version")
	return err
}

// Enabled returns the links that make systemd start a unit.
func (h Host) Enabled(unit string) []string {
	var links []string
	for _, kind := range []string{"wants", "requires"} {
		some, _ := filepath.Glob(h.Path(UnitFolder) + "/*." + kind + "/" + unit) // an error is about the pattern
		links = append(links, some...)
	}
	return links
}

// IsActive reports whether a unit is active, or about to change its state.
func (h Host) IsActive(unit string) bool {
	state, err := h.Show(unit, "ActiveState")
	return err == nil && state != "inactive" && state != "failed" && state != ""
}

// Show returns a property of a unit.
func (h Host) Show(unit, property string) (string, error) {
	return h.Systemctl("show", "--property="+property, "--value", unit)
}

// Listens returns the paths of a socket unit's sockets.
func (h Host) Listens(unit string) ([]string, error) {
	text, err := h.Show(unit, "Listen")
	if err != nil {
		return nil, err
	}
	var paths []string
	for line := range strings.Lines(text) {
		path, kind, _ := strings.Cut(strings.TrimSpace(line), " ")
		if rest, ok := strings.CutPrefix(path, "/var/run/"); ok {
			path = "/run/" + rest
		}
		if kind != "(Stream)" {
			path += " " + kind
		}
		paths = append(paths, path)
	}
	return paths, nil
}
