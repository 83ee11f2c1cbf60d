package tool

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// libvirt runs whatever is executable in qemu.d, so nothing may be written there piece by piece.
func TestAHookIsNeverSeenHalfWritten(t *testing.T) {
	p := bare(t)
	parts, err := installer{host: p.host, source: p.path("/home/stopguard-hook")}.parts()
	p.must(err)
	last := parts[len(parts)-1]
	if last.path != hookFile || last.via != hooksFolder {
		t.Errorf("%s comes last, by way of %s", last.path, last.via)
	}
	p.install()
	for _, folder := range []string{hooksFolder, hooksFolder + "/qemu.d", "/usr/libexec", "/usr/sbin", unitFolder} {
		left, err := filepath.Glob(p.path(folder) + "/.*")
		if err != nil || len(left) > 0 {
			t.Error(left, err)
		}
	}
	p.folder(hookFile + ".d/x")
	if err := (installer{host: p.host, out: io.Discard}).placeLink(p.path(hookFile+".d"), "x"); err == nil {
		t.Error("a folder was replaced by a link")
	}
	// A failure leaves nothing either.
	if err := writeWhole(p.path(hooksFolder), p.path("/etc"), []byte("x"), 0o755); err == nil {
		t.Error("a folder was replaced by a file")
	}
	if left, _ := filepath.Glob(p.path(hooksFolder) + "/.*"); len(left) > 0 {
		t.Error(left)
	}
}

func TestAnOlderInstallationIsTakenOver(t *testing.T) {
	for _, tt := range []struct {
		why  string
		thin bool
	}{{"with the thin program again", true}, {"without it", false}} {
		t.Run(tt.why, func(t *testing.T) {
			p := bare(t)
			before := tree(t, p.root)
			p.older()
			args := []string{"--hook", p.another("/home/another-hook")}
			if tt.thin {
				args = append(args, "--thin", p.path("/home/stopguard-hook"))
			}
			out, err := p.do(newInstall(), args...)
			p.must(err)
			wantSaid(t, out, "installed  "+p.path(hookProgram), "linked     "+p.path(hookLink), "unchanged  "+p.path(hookFile))
			if to, _ := os.Readlink(p.path(thinLink)); (to == "../sbin/stopguard-hook-thin") != tt.thin || p.exists(thinProgram) != tt.thin || p.exists(thinLink) != tt.thin {
				t.Error("the thin program's link leads to", to)
			}
			_, err = p.do(newUninstall())
			p.must(err)
			for name := range tree(t, p.root) {
				if _, old := before[name]; !old && strings.Contains(name, "stopguard-hook") {
					t.Error(name, "is left")
				}
			}
		})
	}
	t.Run("not one that was changed", func(t *testing.T) {
		p := bare(t)
		p.older()
		p.put(hookLink, "mine", 0o755)
		if _, err := p.do(newInstall(), "--hook", p.another("/home/another-hook")); err == nil || p.content(hookLink) != "mine" || p.exists(hookProgram) {
			t.Error(err)
		}
	})
	t.Run("uninstalled by this version, all of it goes", func(t *testing.T) {
		p := bare(t)
		p.older()
		_, err := p.do(newUninstall())
		p.must(err)
		for _, name := range []string{hookFile, hookLink, thinLink, receiptFile} {
			if p.exists(name) {
				t.Error(name, "is left")
			}
		}
	})
}

// Between any two steps, what the hook finds by its link is a whole program.
func TestTheLinkNeverComesBeforeItsProgram(t *testing.T) {
	p := bare(t)
	p.older()
	i := installer{host: p.host, out: io.Discard, source: p.path("/home/stopguard-hook"), thin: p.path("/home/stopguard-hook")}
	parts, err := i.parts()
	p.must(err)
	p.must(i.folders(&receipt{}, parts))
	want := p.content("/home/stopguard-hook")
	for _, part := range parts {
		p.must(i.place(part))
		if p.content(hookLink) != want || p.content(thinLink) != want {
			t.Error("after", part.path)
		}
	}
}
