package host

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

func systemctl() func(...string) (string, error) {
	program, err := exec.LookPath("systemctl")
	if _, there := os.Stat("/run/systemd/system"); err != nil || there != nil {
		return nil
	}
	return func(args ...string) (string, error) {
		cmd := exec.Command(program, args...)
		cmd.Env = append(os.Environ(), "TZ=UTC", "LC_ALL=C")
		out, err := cmd.Output()
		if exit, ok := errors.AsType[*exec.ExitError](err); ok && len(exit.Stderr) > 0 {
			err = errors.New(strings.TrimSpace(string(exit.Stderr)))
		}
		return strings.TrimSpace(string(out)), err
	}
}

// Enabled returns the links by which systemd starts a unit.
func (h Host) Enabled(unit string) []string {
	var links []string
	for _, kind := range []string{"wants", "requires"} {
		some, _ := filepath.Glob(h.Path(UnitFolder) + "/*." + kind + "/" + unit) // an error is about the pattern
		links = append(links, some...)
	}
	return links
}

func (h Host) IsActive(unit string) bool {
	state, err := h.Show(unit, "ActiveState")
	return err == nil && state != "inactive" && state != "failed" && state != ""
}

func (h Host) Show(unit, property string) (string, error) {
	return h.Systemctl("show", "--property="+property, "--value", unit)
}

// Listens returns the paths that a socket unit is to listen on.
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
