package tool

import (
	"context"
	"os/exec"
	"strings"
	"time"
)

// A brought file is one that a package has brought.
type brought struct {
	name  string // the package's
	again string // the command that installs its files again
}

// broughtBy gives the package that a file belongs to, whether the file is there or not.
func (h host) broughtBy(path string) (brought, bool) {
	if h.packages == nil {
		return brought{}, false
	}
	return h.packages(path)
}

// packageTime is for how long a package manager may take, which may be waiting for its own lock.
const packageTime = 10 * time.Second

// packages asks dpkg and rpm. One that is not there, or fails, knows of no file.
func packages(path string) (brought, bool) {
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
			return brought{name, "apt-get install --reinstall " + name}, true
		}
	}
	// What is said about a file that is nobody's goes to stdout too.
	if name, ok := strings.CutPrefix(strings.TrimSpace(ask("rpm", "--query", "--queryformat", "package %{NAME}", "--file", path)), "package "); ok {
		return brought{name, "dnf reinstall " + name}, true
	}
	return brought{}, false
}
