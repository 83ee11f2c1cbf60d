package host

import (
	"context"
	"os/exec"
	"strings"
	"time"
)

// A Brought is the package of a file.
type Brought struct {
	Name  string // name of the package
	Again string // the command that reinstalls it
}

// BroughtBy returns the package that a file belongs to, even if the file is missing.
func (h Host) BroughtBy(path string) (Brought, bool) {
	if h.Packages == nil {
		return Brought{}, false
	}
	return h.Packages(path)
}

// packageTime bounds the time of a package manager, which may wait for its own lock.
const packageTime = 10 * time.Second

// packages asks dpkg and rpm for the package of a file. If one of them is missing or fails, the
// file does not belong to it.
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
