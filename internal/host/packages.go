package host

import (
	"context"
	"os/exec"
	"strings"
	"time"
)

// A Brought file is a file that came with a package.
type Brought struct {
	Name  string // the package's
	Again string // the command that installs its files again
}

// BroughtBy returns the package that a file belongs to, whether the file is there or not.
func (h Host) BroughtBy(path string) (Brought, bool) {
	if h.Packages == nil {
		return Brought{}, false
	}
	return h.Packages(path)
}

// packageTime is for how long a package manager may take, which may be waiting for its own lock.
const packageTime = 10 * time.Second

// packages runs dpkg and rpm. If one is missing or fails, it does not have the file.
func packages(path string) (Brought, bool) {
	ctx, cancel := context.WithTimeout(context.Background(), packageTime)
	defer cancel()
	ask := func(name string, args ...string) string {
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Env = []string{"LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
		out, _ := cmd.Output()
		return string(out)
	}
	for line := range strings.Lines(ask("dpkg-query", "--search", path)) {
		if name, ok := strings.CutSuffix(strings.TrimSpace(line), ": "+path); ok && !strings.HasPrefix(name, "diversion by ") {
			return Brought{name, "apt-get install --reinstall " + name}, true
		}
	}
	// rpm also writes errors about unowned files to stdout.
	if name, ok := strings.CutPrefix(strings.TrimSpace(ask("rpm", "--query", "--queryformat", "package %{NAME}", "--file", path)), "package "); ok {
		return Brought{name, "dnf reinstall " + name}, true
	}
	return Brought{}, false
}
