package install

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stopguard/stopguard/internal/host/hosttest"
)

func TestInstallTakesOnlyAProgramOfThisMachine(t *testing.T) {
	p := newSite(t)
	p.Put("/home/text", "#!/bin/sh\n", 0o755)
	for _, file := range []string{p.Path("/home/text"), p.Path("/home/missing")} {
		before := hosttest.Tree(t, p.Root)
		if _, err := p.do(Command(), "--hook", file); err == nil || !strings.Contains(err.Error(), "--hook") {
			t.Error(file, err)
		}
		if diff := cmp.Diff(before, hosttest.Tree(t, p.Root)); diff != "" {
			t.Error(diff)
		}
	}
}

func TestInstallTakesNoProgramThatIsKnownToBeAnother(t *testing.T) {
	if testing.Short() {
		t.Skip("builds programs")
	}
	const stopguard = "github.com/stopguard/stopguard"
	build := func(module, pkg string) func(*site) string {
		return func(p *site) string { return hosttest.ProgramOf(p.T, module, pkg) }
	}
	for _, tt := range []struct {
		why, flag string
		program   func(*site) string
		want      string // "" if it is taken
	}{
		{"the gate would wait for connections at each stop", "--hook", build(stopguard, "cmd/stopguard-gate"), "is the gate's program, not the hook program; "},
		{"a slip of the same kind", "--hook", build(stopguard, "cmd/stopguard-agent"), "is the agent, not the hook program; "},
		{"the tool would list its commands", "--hook", build(stopguard, "cmd/stopguard"), "is the stopguard tool, not the hook program; "},
		{"it hands over to a program that would be itself", "--hook", build(stopguard, "cmd/stopguard-hook-thin"), "is the thin hook program, not the hook program; "},
		{"it would never ask the agent", "--thin", build(stopguard, "cmd/stopguard-hook"), "is the hook program, not the thin hook program; "},
		{"", "--thin", build(stopguard, "examples/gate"), "is the gate's program, not the thin hook program; "},
		{"as earlier versions built it", "--hook", build(stopguard, "examples/stopguard"), "is the stopguard tool, not the hook program; "},
		{"", "--hook", build(stopguard, "cmd/stopguard-hook"), ""},
		{"", "--hook", build(stopguard, "cmd/stopguard-hook"), ""},
		{"the site's own", "--hook", build(stopguard, "examples/hook"), ""},
		{"", "--thin", build(stopguard, "cmd/stopguard-hook-thin"), ""},
		{"", "--thin", build(stopguard, "cmd/stopguard-hook-thin"), ""},
		{"a Go program without the library", "--hook", build("example.com/other", "."), "is not made with stopguard; "},
		{"", "--thin", build("example.com/other", "."), "is not made with stopguard; "},
		{"no Go program, but it can be asked", "--hook", func(p *site) string {
			ls, err := exec.LookPath("ls")
			p.Must(err)
			content, err := os.ReadFile(ls)
			p.Must(err)
			p.Put("/home/ls", string(content), 0o755)
			return p.Path("/home/ls")
		}, "has nothing to do for, ended with"},
		{"it fails", "--hook", func(p *site) string {
			p.Put("/home/stopguard-hook.does", "fail", 0o644)
			return p.Path("/home/stopguard-hook")
		}, "has nothing to do for, "},
		{"it is not run, for others could have changed it", "--hook", func(p *site) string {
			p.Put("/home/stopguard-hook.does", "fail", 0o644)
			p.Chmod("/home", 0o777)
			return p.Path("/home/stopguard-hook")
		}, ""},
		{"it came without its mode, which install sets", "--hook", func(p *site) string {
			p.Copied("/home/stopguard-hook")
			p.Chmod("/home/stopguard-hook", 0o644)
			return p.Path("/home/stopguard-hook")
		}, ""},
		{"half of it came over", "--hook", func(p *site) string {
			content := p.Content("/home/stopguard-hook")
			p.Put("/home/half", content[:len(content)/8], 0o755)
			return p.Path("/home/half")
		}, "is not whole; "},
	} {
		t.Run(tt.flag+" "+tt.why+tt.want, func(t *testing.T) {
			p := newSite(t)
			args := []string{tt.flag, tt.program(p)}
			if tt.flag != "--hook" {
				args = append(args, "--hook", p.Path("/home/stopguard-hook"))
			}
			before := hosttest.Tree(t, p.Root)
			_, err := p.do(Command(), args...)
			if tt.want == "" {
				p.Must(err)
				return
			}
			if err == nil || !strings.HasPrefix(err.Error(), "nothing was installed: ") || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), tt.flag) {
				t.Errorf("%s: %v", tt.why, err)
			}
			if diff := cmp.Diff(before, hosttest.Tree(t, p.Root)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
