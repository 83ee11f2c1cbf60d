package install

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/host"
	"github.com/stopguard/stopguard/internal/host/hosttest"
	"github.com/stopguard/stopguard/internal/hostpath"
)

func TestInstallLooksAtEverythingBeforeItWritesAnything(t *testing.T) {
	for _, tt := range []struct {
		why   string
		plant func(*site)
		says  []string
	}{
		{"the folder of hooks is mounted with noexec", func(p *site) { p.Noexec(host.HooksFolder + "/qemu.d") },
			[]string{"mounted with noexec, where ", host.HookFile, "mount it without noexec"}},
		{"the folder of programs is", func(p *site) { p.Noexec("/usr/sbin") }, []string{"mounted with noexec, where ", host.HookProgram}},
		{"a file system is read-only", func(p *site) {
			p.Noexec("/usr/libexec")
			p.Must(unix.Mount("", p.Path("/usr/libexec"), "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
		}, []string{"/usr/libexec cannot be written (read-only file system); "}},
		{"this version refuses the host's policy", func(p *site) {
			p.Put(hostpath.Policy+"/mine.rego", "package stopguard.rules.mine\n\nveto contains \"x\" if input.domain.nme == \"x\"\n", 0o644)
		}, []string{"every stop would be refused", "mine.rego", "nme"}},
		{"the list is broken, and the policy", func(p *site) { // both are to be corrected before the next try
			p.Put(hostpath.List, "web-[\n", 0o644)
			p.Put(hostpath.Policy+"/mine.rego", "package stopguard.rules.mine\n\nveto contains \"x\" if input.domain.nme == \"x\"\n", 0o644)
		}, []string{"line 1", "nme"}},
		{"the list is broken", func(p *site) { p.Put(hostpath.List, "web-[\n", 0o644) }, []string{"every stop would be refused", "line 1"}},
	} {
		t.Run(tt.why, func(t *testing.T) {
			p := newSite(t)
			tt.plant(p)
			before := hosttest.Tree(t, p.Root)
			_, err := p.do(Command(), "--hook", p.Path("/home/stopguard-hook"))
			if err == nil || !strings.HasPrefix(err.Error(), "nothing was installed: ") {
				t.Fatal(err)
			}
			for _, part := range tt.says {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q is not in %q", part, err)
				}
			}
			if diff := cmp.Diff(before, hosttest.Tree(t, p.Root)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestInstallWhereTheFolderOfHooksIsAFileSystemOfItsOwn(t *testing.T) {
	p := newSite(t)
	p.Noexec(host.HooksFolder + "/qemu.d")
	p.Must(unix.Mount("", p.Path(host.HooksFolder+"/qemu.d"), "", unix.MS_REMOUNT, ""))
	p.install()
	if p.Content(host.HookFile) != hookproto.Front {
		t.Error("the hook is not there")
	}
}

// A restarted daemon kills running guests if it cannot start an executable hook, so such a hook is
// not left behind.
func TestNoHookIsPutWhereLibvirtCannotStartIt(t *testing.T) {
	for _, tt := range []struct {
		why   string
		plant func(*site)
		says  string // "" if it is put there
	}{
		{"SELinux denies it", func(p *site) { p.SELinux("virtqemud_t", "virt_hook_t", "read", "open") }, "SELinux denies virtqemud (system_u:system_r:virtqemud_t:s0) to execute "},
		{"SELinux lets it start", func(p *site) { p.SELinux("virtqemud_t", "virt_hook_t", "read", "open", "execute", "execute_no_trans") }, ""},
		{"no daemon runs that could be asked about", func(p *site) {
			p.SELinux("virtqemud_t", "virt_hook_t")
			p.Remove("/proc")
		}, ""},
	} {
		t.Run(tt.why, func(t *testing.T) {
			for _, again := range []bool{false, true} {
				p := newSite(t)
				if again {
					p.install()
				}
				p.Process(hosttest.DaemonPID, "virtqemud", 0, hosttest.Booted)
				p.Put("/proc/stat", "btime 1700000000\n", 0o444)
				tt.plant(p)
				var out strings.Builder
				err := installer{Host: p.Host, out: &out, source: p.Path("/home/stopguard-hook")}.install(t.Context())
				info, missing := os.Stat(p.Path(host.HookFile))
				p.Must(missing)
				if tt.says == "" {
					if err != nil || info.Mode().Perm() != 0o755 {
						t.Error(err, info.Mode())
					}
					continue
				}
				if err == nil || !strings.Contains(err.Error(), tt.says) || info.Mode()&0o111 != 0 {
					t.Errorf("installed before: %v: %v, %v", again, err, info.Mode())
				}
			}
		})
	}
}

func TestInstallSaysIfNothingCanRefuse(t *testing.T) {
	for _, tt := range []struct {
		why        string
		operations []string
		want       bool
	}{
		{"every released libvirt", hosttest.StockOperations, true},
		{"one that calls the hook", hosttest.PatchedOperations, false},
	} {
		t.Run(tt.why, func(t *testing.T) {
			p := newSite(t)
			p.Library(tt.operations)
			const text = "nothing on this host can refuse a stop: this libvirt does not call the hook for a stop, and no gate is in front of it; put one there: stopguard install --restart --gate FILE\n"
			if out := p.install(); strings.Contains(out, text) != tt.want {
				t.Error(out)
			}
		})
	}
}
