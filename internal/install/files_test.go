package install

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stopguard/stopguard/internal/host"
	"github.com/stopguard/stopguard/internal/host/hosttest"
	"github.com/stopguard/stopguard/internal/hostfile"
)

// libvirt runs any executable file in qemu.d, so a file may not be written there piece by piece.
func TestAHookIsNeverSeenHalfWritten(t *testing.T) {
	p := newSite(t)
	i := installer{Host: p.Host, source: p.Path("/home/stopguard-hook")}
	parts, err := i.parts()
	p.Must(err)
	p.Folder(host.HooksFolder + "/qemu.d")
	last := parts[len(parts)-1]
	if last.path != host.HookFile || i.via(last) != host.HooksFolder {
		t.Errorf("%s comes last, by way of %s", last.path, i.via(last))
	}
	p.install()
	for _, folder := range []string{host.HooksFolder, host.HooksFolder + "/qemu.d", "/usr/libexec", "/usr/sbin", host.UnitFolder} {
		left, err := filepath.Glob(p.Path(folder) + "/.*")
		if err != nil || len(left) > 0 {
			t.Error(left, err)
		}
	}
	p.Folder(host.HookFile + ".d/x")
	if err := (installer{Host: p.Host, out: io.Discard}).placeLink(p.Path(host.HookFile+".d"), "x"); err == nil {
		t.Error("a folder was replaced by a link")
	}
	// A failure leaves nothing either.
	if err := hostfile.ReplaceVia(p.Path(host.HooksFolder), p.Path("/etc"), []byte("x"), 0o755); err == nil {
		t.Error("a folder was replaced by a file")
	}
	if left, _ := filepath.Glob(p.Path(host.HooksFolder) + "/.*"); len(left) > 0 {
		t.Error(left)
	}
}

func TestAnOlderInstallationIsTakenOver(t *testing.T) {
	for _, tt := range []struct {
		why  string
		thin bool
	}{{"with the thin program again", true}, {"without it", false}} {
		t.Run(tt.why, func(t *testing.T) {
			p := newSite(t)
			before := hosttest.Tree(t, p.Root)
			p.older()
			args := []string{"--hook", p.Another("/home/another-hook")}
			if tt.thin {
				args = append(args, "--thin", p.Path("/home/stopguard-hook"))
			}
			out, err := p.do(Command(), args...)
			p.Must(err)
			wantSaid(t, out, "installed  "+p.Path(host.HookProgram), "linked     "+p.Path(host.HookLink), "unchanged  "+p.Path(host.HookFile))
			if to, _ := os.Readlink(p.Path(host.ThinLink)); (to == "../sbin/stopguard-hook-thin") != tt.thin || p.Exists(host.ThinProgram) != tt.thin || p.Exists(host.ThinLink) != tt.thin {
				t.Error("the thin program's link leads to", to)
			}
			_, err = p.do(Uninstall())
			p.Must(err)
			for name := range hosttest.Tree(t, p.Root) {
				if _, old := before[name]; !old && strings.Contains(name, "stopguard-hook") {
					t.Error(name, "is left")
				}
			}
		})
	}
	t.Run("not one that was changed", func(t *testing.T) {
		p := newSite(t)
		p.older()
		p.Put(host.HookLink, "mine", 0o755)
		if _, err := p.do(Command(), "--hook", p.Another("/home/another-hook")); err == nil || p.Content(host.HookLink) != "mine" || p.Exists(host.HookProgram) {
			t.Error(err)
		}
	})
	t.Run("uninstalled by this version, all of it goes", func(t *testing.T) {
		p := newSite(t)
		p.older()
		_, err := p.do(Uninstall())
		p.Must(err)
		for _, name := range []string{host.HookFile, host.HookLink, host.ThinLink, manifestFile} {
			if p.Exists(name) {
				t.Error(name, "is left")
			}
		}
	})
}

// Between any two steps, the hook's link leads to a complete program.
func TestTheLinkNeverComesBeforeItsProgram(t *testing.T) {
	p := newSite(t)
	p.older()
	i := installer{Host: p.Host, out: io.Discard, source: p.Path("/home/stopguard-hook"), thin: p.Path("/home/stopguard-hook")}
	parts, err := i.parts()
	p.Must(err)
	p.Must(i.folders(&manifest{}, parts))
	want := p.Content("/home/stopguard-hook")
	for _, part := range parts {
		p.Must(i.place(part))
		if p.Content(host.HookLink) != want || p.Content(host.ThinLink) != want {
			t.Error("after", part.path)
		}
	}
}
