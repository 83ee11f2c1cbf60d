package doctor

import (
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/definition"
	"github.com/stopguard/stopguard/internal/host"
	"github.com/stopguard/stopguard/internal/host/hosttest"
	"github.com/stopguard/stopguard/internal/hostpath"
	"github.com/stopguard/stopguard/internal/terminal"
)

// ill returns the findings that are not ok, as "id: severity".
func ill(r report) []string {
	all := []string{}
	for _, f := range r.Findings {
		if f.Severity != severityOK {
			all = append(all, f.ID+": "+f.Severity)
		}
	}
	return all
}

func TestAHealthyHostHasNoFinding(t *testing.T) {
	p := newPatient(t)
	r := p.examine(context.Background())
	if diff := cmp.Diff([]string{}, ill(r)); diff != "" || r.CallsStop != "yes" || r.Severity != severityOK {
		t.Errorf("%s\n%+v", diff, r)
	}
}

// never is when a daemon was reloaded that was not, in this century.
const never = -100 * 365 * 24 * time.Hour

const fleetGroup = `{"site": {"min_running": {"groups": [{"name": "pg", "scope": "fleet", "min": 1, "members": ["pg-*"]}]}}}`

// Each row adds one fault to a healthy host. doctor finds that fault and no other.
func TestDoctorFindsEachFaultAndNoOther(t *testing.T) {
	// Not many formats of a program can be made up: this one is built.
	foreign := hosttest.ForeignProgram(t)
	tests := []struct {
		name, why string
		plant     func(p *patient)
		want      string // "" if it is not a fault
	}{
		{"a libvirt without stop", "every released one",
			func(p *patient) { p.Library(hosttest.StockOperations) }, "stop-operation: failure"},
		{"a libvirt with a table of another form", "",
			func(p *patient) { p.Library([]string{"stop"}) }, "stop-operation: unknown"},
		{"a library that is none", "",
			func(p *patient) { p.Put(hosttest.LibraryPath, "stop", 0o644) }, "stop-operation: unknown"},
		{"a library of NixOS", "its hooks are elsewhere", func(p *patient) {
			library := hosttest.LibraryHere(hosttest.PatchedOperations)
			library.HooksFolder = "/var/lib/libvirt/hooks"
			p.Put(hosttest.LibraryPath, string(library.Bytes()), 0o644)
		}, "hook-read: failure"},
		{"a library without qemu.d", "before 6.5", func(p *patient) {
			library := hosttest.LibraryHere(hosttest.PatchedOperations)
			library.Version = "6.4.0"
			p.Put(hosttest.LibraryPath, string(library.Bytes()), 0o644)
		}, "hook-read: failure"},
		{"a library without qemu.d, and the hook in its older place", "", func(p *patient) {
			library := hosttest.LibraryHere(hosttest.PatchedOperations)
			library.Version = "6.4.0"
			p.Put(hosttest.LibraryPath, string(library.Bytes()), 0o644)
			p.Remove(host.HookFile)
			p.Put(host.HooksFolder+"/qemu", hookproto.Front, 0o755)
		}, ""},
		{"a library that names no folder", "", func(p *patient) {
			library := hosttest.LibraryHere(hosttest.PatchedOperations)
			library.HooksFolder = ""
			p.Put(hosttest.LibraryPath, string(library.Bytes()), 0o644)
		}, "hook-read: unknown"},
		{"a library of no known version", "", func(p *patient) {
			library := hosttest.LibraryHere(hosttest.PatchedOperations)
			library.Version = "x"
			p.Put(hosttest.LibraryPath, string(library.Bytes()), 0o644)
		}, "hook-read: unknown"},
		{"a library that was replaced", "the daemon runs with the old one until it is restarted",
			func(p *patient) {
				p.Put(fmt.Sprintf("/proc/%d/maps", hosttest.DaemonPID), "7f00-7f01 r-xp 00000000 08:01 42   "+hosttest.LibraryPath+" (deleted)\n", 0o444)
			}, "stop-operation: unknown"},
		{"no library", "",
			func(p *patient) { p.NoLibrary() }, "stop-operation: unknown"},
		{"no library, and a stop in the record", "only a hook that libvirt called writes one",
			func(p *patient) { p.NoLibrary(); p.Recorded("veto", time.Hour) }, ""},
		{"no library, and an old stop in the record", "it may have been another libvirt's",
			func(p *patient) { p.NoLibrary(); p.Recorded("veto", -time.Hour) }, "stop-operation: unknown"},
		{"no library and no daemon, and a stop in the record", "somebody ran the hook by hand",
			func(p *patient) {
				p.NoLibrary()
				p.Recorded("veto", time.Hour)
				p.Remove(fmt.Sprintf("/proc/%d", hosttest.DaemonPID))
			}, "stop-operation: unknown"},
		{"no library, and a request to stop in the record", "a gate asked, which works with any libvirt",
			func(p *patient) {
				p.NoLibrary()
				p.Recorded("veto", time.Hour)
				const file = "/var/log/stopguard/decisions.jsonl"
				p.Put(file, strings.ReplaceAll(p.Content(file), `"veto"`, `"veto", "request": {"operation": "stop", "uid": 0}`), 0o600)
			}, "stop-operation: unknown"},
		{"no library, and an escape in the record", "any libvirt calls release",
			func(p *patient) { p.NoLibrary(); p.Recorded("escape", time.Hour) }, "stop-operation: unknown"},

		{"no hook", "", func(p *patient) { p.Remove(host.HookFile) }, "hook-installed: failure"},
		{"a hook of another name", "it runs all the same",
			func(p *patient) {
				p.Remove(host.HookFile)
				p.Put(host.HooksFolder+"/qemu.d/10-guard", hookproto.Front, 0o755)
			}, ""},
		{"switched off", "chmod -x is how, and somebody may forget it",
			func(p *patient) { p.Chmod(host.HookFile, 0o644) }, "hook-executable: failure"},
		{"also as hooks/qemu", "the way of older guides",
			func(p *patient) { p.Put(host.HooksFolder+"/qemu", hookproto.Front, 0o755) }, "hook-once: warning"},
		{"also as hooks/qemu, without a front", "",
			func(p *patient) { p.Program(host.HooksFolder + "/qemu") }, "hook-once: warning"},
		{"twice in qemu.d", "hidden names run too",
			func(p *patient) { p.Put(host.HooksFolder+"/qemu.d/.50-stopguard", hookproto.Front, 0o755) }, "hook-once: warning"},
		{"a second one that is off", "",
			func(p *patient) { p.Put(host.HooksFolder+"/qemu.d/60-stopguard", hookproto.Front, 0o644) }, ""},
		{"a hook that everybody can change", "root runs it",
			func(p *patient) { p.Chmod(host.HookFile, 0o777) }, "hook-owner: failure"},
		{"a changed hook", "",
			func(p *patient) { p.Put(host.HookFile, hookproto.Front+"# mine\n", 0o755) }, "hook-content: warning"},
		{"a hook that is not ours in its place", "it is run for every operation",
			func(p *patient) { p.Put(host.HookFile, "#!/bin/sh\nexit 0\n", 0o755) }, "hook-content: failure"},
		{"an empty hook", "it cannot be run, which kills guests on reconnect",
			func(p *patient) { p.Put(host.HookFile, "", 0o755) }, "hook-content: failure"},
		{"a hook without a front", "",
			func(p *patient) { p.Program(host.HookFile) }, "hook-content: warning"},
		{"a left-over of the package manager", "", func(p *patient) {
			p.Put(host.HooksFolder+"/qemu.d/50-stopguard.dpkg-new", hookproto.Front, 0o755)
		}, "hook-twins: warning"},
		{"a left-over of an editor", "",
			func(p *patient) { p.Put(host.HooksFolder+"/qemu.d/20-network~", "#!/bin/sh\n", 0o755) }, "hook-twins: warning"},
		{"a left-over that does not run", "",
			func(p *patient) { p.Put(host.HooksFolder+"/qemu.d/50-stopguard.bak", hookproto.Front, 0o644) }, ""},
		{"a hook of somebody else", "is none of ours",
			func(p *patient) { p.Put(host.HooksFolder+"/qemu.d/20-network", "#!/bin/sh\n", 0o755) }, ""},
		{"a dispatcher that runs qemu.d", "libvirt does so itself, and the front prints nothing that could be handed on",
			func(p *patient) {
				p.Put(host.HooksFolder+"/qemu", "#!/bin/bash\nxml=$(cat)\nfor hook in \"$0.d\"/*; do\n  xml=$(\"$hook\" \"$@\" <<<\"$xml\")\ndone\n", 0o755)
			}, "hook-dispatcher: warning"},
		{"a dispatcher that looks for the files", "the same by another command",
			func(p *patient) {
				p.Put(host.HooksFolder+"/qemu", "#!/bin/sh\nfind /etc/libvirt/hooks/qemu.d -type f -perm /111 | sort\n", 0o755)
			}, "hook-dispatcher: warning"},
		{"a dispatcher of one folder for each domain", "libvirt does not run those",
			func(p *patient) {
				p.Put(host.HooksFolder+"/qemu", "#!/bin/bash\n# see qemu.d\nHOOKPATH=\"$(dirname $0)/qemu.d/$1/$2/$3\"\nrun-parts $HOOKPATH\n", 0o755)
			}, ""},
		{"a dispatcher that is off", "libvirt does not run it",
			func(p *patient) { p.Put(host.HooksFolder+"/qemu", "#!/bin/sh\nfor f in $0.d/*; do :; done\n", 0o644) }, ""},

		{"no program", "", func(p *patient) { p.Remove(host.HookProgram) }, "program: failure"},
		{"an empty program", "after a crash", func(p *patient) { p.Put(host.HookProgram, "", 0o755) }, "program: failure"},
		{"a folder for a program", "", func(p *patient) { p.Remove(host.HookProgram); p.Folder(host.HookProgram) }, "program: failure"},
		{"a program that is not executable", "", func(p *patient) { p.Put(host.HookProgram, "\x7fELF", 0o644) }, "program: failure"},
		{"a program of zeros", "after a crash", func(p *patient) { p.Put(host.HookProgram, "\x00\x00\x00\x00", 0o755) }, "program-machine: failure"},
		{"a program for another machine", "", func(p *patient) {
			other := hosttest.LibraryHere(nil)
			other.Machine = elf.EM_SPARC
			p.Put(host.HookProgram, string(other.Bytes()), 0o755)
		}, "program-machine: failure"},
		{"half a program", "a copy that broke off", func(p *patient) {
			whole, err := os.ReadFile(foreign)
			p.Must(err)
			p.Put(host.HookProgram, string(whole[:len(whole)/2]), 0o755)
		}, "program-machine: failure"},
		{"a program of somebody else", "it may allow everything", func(p *patient) {
			content, err := os.ReadFile(foreign)
			p.Must(err)
			p.Put(host.HookProgram, string(content), 0o755)
		}, "program-library: failure"},
		{"a script for a program", "",
			func(p *patient) { p.Put(host.HookProgram, "#!/bin/sh\nexit 0\n", 0o755) }, "program-library: unknown"},
		{"a program in a folder that everybody can change", "root runs it",
			func(p *patient) {
				p.ProgramIs("/usr/bin/free/hook")
				p.Program("/usr/bin/free/hook")
				p.Chmod("/usr/bin/free", 0o777)
			}, "program-owner: failure"},
		{"the program of the version before", "the package keeps it while the new one refuses the policy, which is easily forgotten", func(p *patient) {
			p.ProgramIs(host.PreviousHook)
			p.Program(host.PreviousHook)
		}, "program-place: warning"},
		{"a thin program that works", "", func(p *patient) { p.Thin() }, ""},
		{"a thin program of zeros", "the front would run it", func(p *patient) { p.Thin(); p.Put(host.ThinProgram, "\x00\x00\x00\x00", 0o755) }, "thin-machine: failure"},
		{"a thin program that is gone", "the front runs the other", func(p *patient) { p.Thin(); p.Remove(host.ThinProgram) }, "thin: warning"},
		{"an empty thin program", "the front runs the other", func(p *patient) { p.Thin(); p.Put(host.ThinProgram, "", 0o755) }, "thin: warning"},
		{"a thin program beside the link to the other", "as an older version installed it", func(p *patient) { p.Program(host.ThinLink) }, ""},
		{"a thin program that AppArmor does not let run", "the front would run it, and every stop be a fault", func(p *patient) {
			p.Put("/etc/apparmor.d/usr.sbin.libvirtd", hosttest.DebianProfile, 0o644)
			p.Program(host.ThinLink)
		}, "apparmor: failure"},
		{"a thin program that fails", "", func(p *patient) { p.Thin(); p.Put(host.ThinLink+".does", "fail", 0o644) }, "thin-starts: failure"},
		{"a thin program that others may change", "root runs it", func(p *patient) {
			p.Thin()
			p.Put(host.ThinProgram, p.Content(host.ThinProgram), 0o777)
		}, "thin-owner: failure"},
		{"a program that fails", "", func(p *patient) { p.Put(host.HookLink+".does", "fail", 0o644) }, "program-starts: failure"},
		{"a program that speaks", "its output could become a domain's XML", func(p *patient) { p.Put(host.HookLink+".does", "speak", 0o644) }, "program-starts: failure"},
		{"a program that hangs", "", func(p *patient) { p.Put(host.HookLink+".does", "hang", 0o644); p.doctor.patience = time.Second }, "program-starts: failure"},

		{"a program where AppArmor lets nothing run", "", func(p *patient) {
			p.ProgramIs("/opt/hook")
			p.Program("/opt/hook")
		}, "apparmor: failure"},
		{"a link to where AppArmor lets nothing run", "what counts is where it leads", func(p *patient) {
			p.Program("/opt/hook")
			p.Link("../../opt/hook", host.HookLink)
		}, "apparmor: failure"},
		{"a link to another program", "what install puts in /usr/sbin would not run", func(p *patient) {
			p.Copied("/usr/sbin/old-hook")
			p.Link("../sbin/old-hook", host.HookLink)
		}, "program-place: warning"},
		{"a link that leads nowhere", "", func(p *patient) { p.Link("../sbin/none", host.HookLink) }, "program: failure"},
		{"an absolute link", "it leads out of the root that these tests have", func(p *patient) { p.Link(p.Path(host.HookProgram), host.HookLink) }, ""},
		{"a link in a folder that everybody can change", "they could have it lead elsewhere",
			func(p *patient) { p.Chmod("/usr/libexec", 0o777) }, "program-owner: failure"},
		{"a copy and not a link", "what install puts in /usr/sbin would not run", func(p *patient) { p.Copied(host.HookLink) }, "program-place: warning"},
		{"a program where older versions installed it", "", func(p *patient) { p.Remove(host.HookProgram); p.Program(host.HookLink) }, ""},
		{"a program there, and a profile that names only some of /usr/libexec", "so it is on Debian", func(p *patient) {
			p.Put("/etc/apparmor.d/usr.sbin.libvirtd", hosttest.DebianProfile, 0o644)
			p.Remove(host.HookProgram)
			p.Program(host.HookLink)
		}, "apparmor: failure"},
		{"a link out of there to /usr/sbin", "so install and the package do it",
			func(p *patient) { p.Put("/etc/apparmor.d/usr.sbin.libvirtd", hosttest.DebianProfile, 0o644) }, ""},
		{"/usr/sbin that is /usr/bin", "so it is on Fedora", func(p *patient) {
			p.Remove("/usr/sbin")
			p.Program("/usr/bin/stopguard-hook")
			p.Link("bin", "/usr/sbin")
		}, ""},
		{"a program that the site has added to the profile", "", func(p *patient) {
			p.ProgramIs("/opt/hook")
			p.Program("/opt/hook")
			p.Put("/etc/apparmor.d/local/usr.sbin.libvirtd", "# ours\n  /opt/hook PUx,\n", 0o644)
		}, ""},
		{"a profile that only complains", "", func(p *patient) {
			p.ProgramIs("/opt/hook")
			p.Program("/opt/hook")
			p.Put("/sys/kernel/security/apparmor/profiles", "libvirtd (complain)\n", 0o444)
		}, ""},
		{"SELinux that denies it", "selinux-policy before 42: virtqemud may not execute virt_hook_t", func(p *patient) {
			p.SELinux("virtqemud_t", "virt_hook_t", "read", "open")
		}, "selinux: failure"},
		{"SELinux that lets it start in the daemon's domain", "", func(p *patient) {
			p.SELinux("virtqemud_t", "virt_hook_t", "read", "open", "execute", "execute_no_trans")
		}, ""},
		{"SELinux that would have it start in a domain of its own, and denies that", "", func(p *patient) {
			p.SELinux("virtqemud_t", "virt_hook_t -> virt_hook_unconfined_t", "read", "open", "execute", "execute_no_trans")
		}, "selinux: failure"},
		{"SELinux that lets it start in a domain of its own", "", func(p *patient) {
			p.SELinux("virtqemud_t", "virt_hook_t -> virt_hook_unconfined_t", "read", "open", "execute", "transition", "entrypoint")
		}, ""},
		{"SELinux that denies it to a permissive domain", "only a message comes of it", func(p *patient) {
			p.SELinux("permissive_t", "virt_hook_t")
		}, ""},
		{"SELinux, and no label that can be read", "",
			func(p *patient) { p.Put("/sys/fs/selinux/enforce", "1", 0o444) }, "selinux: unknown"},
		{"SELinux, and another label", "", func(p *patient) {
			p.Put("/sys/fs/selinux/enforce", "1", 0o444)
			p.Label = func(string) (string, error) { return "system_u:object_r:etc_t:s0", nil }
		}, "selinux: warning"},
		{"SELinux, and the right label", "", func(p *patient) {
			p.Put("/sys/fs/selinux/enforce", "1", 0o444)
			p.Label = func(string) (string, error) { return "system_u:object_r:virt_hook_t:s0", nil }
		}, ""},
		{"SELinux, permissive", "", func(p *patient) { p.Put("/sys/fs/selinux/enforce", "0", 0o444) }, ""},

		{"a daemon that is older than the hook", "it may have got a SIGHUP",
			func(p *patient) { p.DaemonStarted(-time.Hour) }, "hook-noticed: unknown"},
		{"a daemon that systemd has not reloaded since", "",
			func(p *patient) { p.SystemdStarted(-time.Hour, -time.Hour, never) }, "hook-noticed: warning"},
		{"a daemon that systemd has reloaded since", "in the same script",
			func(p *patient) { p.SystemdStarted(-time.Hour, -time.Hour, 100*time.Millisecond) }, ""},
		{"a daemon that was reloaded just before the hook came", "",
			func(p *patient) { p.SystemdStarted(-time.Hour, -time.Hour, -100*time.Millisecond) }, "hook-noticed: warning"},
		{"a daemon that started just after the hook came", "in the same script",
			func(p *patient) { p.SystemdStarted(100*time.Millisecond, time.Second, never) }, ""},
		{"a daemon that was ready long after it looked", "the hook came in between",
			func(p *patient) { p.SystemdStarted(-time.Second, time.Minute, never) }, "hook-noticed: warning"},
		{"a daemon that started at the moment when the hook came", "it may know it, so it must not be said that it asks nobody",
			func(p *patient) { p.SystemdStarted(0, 0, never) }, "hook-noticed: unknown"},
		{"a daemon that systemd does not know", "", func(p *patient) {
			p.DaemonStarted(-time.Hour)
			p.Systemd(nil)
		}, "hook-noticed: unknown"},
		{"a daemon that was started by hand beside systemd's", "systemd's was reloaded, this one was not", func(p *patient) {
			p.DaemonStarted(-time.Hour)
			p.Systemd(map[string]string{"StateChange": "MainPID=4712\nExecMainStartTimestamp=Sat 2050-01-01 00:00:00.5 UTC"})
		}, "hook-noticed: unknown"},
		{"a daemon that is older than a hook that replaced another", "it has noticed the former one, and runs this one", func(p *patient) {
			p.DaemonStarted(-time.Hour)
			p.HookSince(-2*time.Hour, 0)
		}, ""},
		{"a daemon that is older than the first of these hooks, too", "", func(p *patient) {
			p.DaemonStarted(-time.Hour)
			p.HookSince(-time.Minute, 0)
		}, "hook-noticed: unknown"},
		{"a replaced hook that was changed since", "it may have been off when the daemon started", func(p *patient) {
			p.DaemonStarted(-time.Hour)
			p.HookSince(-2*time.Hour, -time.Minute)
		}, "hook-noticed: unknown"},
		{"a note of a replaced hook that cannot be read", "", func(p *patient) {
			p.DaemonStarted(-time.Hour)
			p.Put(host.HookSince, "1\n", 0o644)
		}, "hook-noticed: unknown"},
		{"no daemon", "one that starts will notice", func(p *patient) { p.Remove("/proc/4711") }, ""},
		{"no processes to be seen", "", func(p *patient) { p.Remove("/proc") }, "hook-noticed: unknown"},

		{"a list that everybody can change", "", func(p *patient) { p.Chmod(hostpath.List, 0o666) }, "list: failure"},
		{"a list that is a link", "", func(p *patient) { p.Link("hosts", hostpath.List) }, "list: failure"},
		{"a list that cannot be understood", "", func(p *patient) { p.Put(hostpath.List, "[\n", 0o644) }, "list: failure"},
		{"a list of names in quotes", "", func(p *patient) { p.Put(hostpath.List, "\"web-01\"\n", 0o644) }, "list-entries: warning"},
		{"a rule beside the folder", "it is not read", func(p *patient) { p.Put("/etc/stopguard/mine.rego", "", 0o644) }, "unread: warning"},
		{"no list", "it may be missing", func(p *patient) { p.Remove(hostpath.List) }, ""},
		{"half a rule", "", func(p *patient) { p.Put(hostpath.Policy+"/half.rego", "package", 0o644) }, "policy: failure"},
		{"a rule that everybody can change", "", func(p *patient) {
			p.Put(hostpath.Policy+"/ours.rego", "package stopguard.rules.ours\n", 0o666)
		}, "policy: failure"},
		{"a folder of rules that everybody can change", "", func(p *patient) { p.Chmod(hostpath.Policy, 0o777) }, "policy: failure"},
		{"a file that is no rule", "", func(p *patient) { p.Put(hostpath.Policy+"/ours.rego.bak", "", 0o644) }, "policy: failure"},
		{"a bundle that is none", "", func(p *patient) { p.Put("/etc/stopguard/bundle.tar.gz", "x", 0o644) }, "policy: failure"},
		{"no rules", "they may be missing", func(p *patient) { p.Remove("/etc/stopguard") }, ""},
		{"a setting that belongs to no rule", "", func(p *patient) { p.Settings(`{"site": {"calender": {}}}`) }, "settings: failure"},
		{"a setting that cannot be", "", func(p *patient) { p.Settings(`{"site": {"monitor": 1}}`) }, "settings: failure"},
		{"a rule that names no operation", "without a gate, stops alone are asked about", func(p *patient) {
			p.Put("/etc/stopguard/policy/web.rego", "package stopguard.rules.web\n\nveto contains \"web\" if input.domain.name == \"web\"\n", 0o644)
		}, ""},
		{"monitoring of one operation", "for a week after an upgrade", func(p *patient) { p.Settings(`{"site": {"monitor": ["*/delete"]}}`) }, "settings: warning"},
		{"a rule that is monitored for one operation", "that is meant", func(p *patient) { p.Settings(`{"site": {"monitor": ["protected_list/delete"]}}`) }, ""},
		{"nothing but monitoring", "", func(p *patient) { p.Settings(`{"site": {"monitor": ["*"]}}`) }, "settings: warning"},
		{"a group of the fleet on a host of none", "its members are refused", func(p *patient) { p.Settings(fleetGroup) }, "fleet: failure"},
		{"a rule that is monitored", "somebody tries it out", func(p *patient) { p.Settings(`{"site": {"monitor": ["protected_list"]}}`) }, ""},

		{"Pacemaker", "", func(p *patient) { p.Process(99, "pacemakerd", 0, time.Now()) }, "cluster: warning"},
		{"Pacemaker that does not run just now", "", func(p *patient) { p.Put("/var/lib/pacemaker/cib/cib.xml", "", 0o600) }, "cluster: warning"},
		{"oVirt", "", func(p *patient) { p.Process(99, "vdsmd", 36, time.Now()) }, "cluster: warning"},
		{"Nova", "", func(p *patient) { p.Process(99, "nova-compute", 162, time.Now()) }, "cluster: warning"},
		{"Proxmox", "", func(p *patient) { p.Process(99, "pve-ha-lrm", 0, time.Now()) }, "cluster: warning"},
		{"Nova, and the domains that it runs are listed", "", func(p *patient) {
			p.Process(99, "nova-compute", 162, time.Now())
			p.Settings(`{"site": {"cluster_managed": ["instance-*"]}}`)
		}, ""},
		{"Nova, and it is said that it runs none", "in a folder, as YAML", func(p *patient) {
			p.Process(99, "nova-compute", 162, time.Now())
			p.Put(hostpath.Policy+"/site/data.yaml", "cluster_managed: []\n", 0o644)
		}, ""},

		{"a definition that was cut short", "what is in it is not known", func(p *patient) {
			p.Put(definition.Folder+"/web-01.xml", "<domain>", 0o600)
		}, "definitions: warning"},
		{"a pipe for a definition", "it would be read for ever", func(p *patient) {
			p.Folder(definition.Folder)
			p.Must(syscall.Mkfifo(p.Path(definition.Folder+"/web-01.xml"), 0o600))
		}, "definitions: warning"},
		{"a file for the folder of definitions", "", func(p *patient) { p.Put(definition.Folder, "", 0o600) }, "definitions: warning"},

		{"a ticket that cannot be read", "", func(p *patient) {
			p.Put("/var/lib/stopguard/tickets/0123456789abcdef.json", "{", 0o600)
		}, "tickets: warning"},
		{"tickets that everybody can write", "", func(p *patient) {
			p.Folder("/var/lib/stopguard/tickets")
			p.Chmod("/var/lib/stopguard/tickets", 0o777)
		}, "tickets: warning"},

		{"a record that is a link", "", func(p *patient) { p.Link("/dev/null", "/var/log/stopguard/decisions.jsonl") }, "record: warning"},
		{"a record that is a folder", "", func(p *patient) { p.Folder("/var/log/stopguard/decisions.jsonl") }, "record: warning"},
		{"a folder of records that is a file", "", func(p *patient) { p.Put("/var/log/stopguard", "", 0o600) }, "record: warning"},
		{"a folder of records that everybody can write", "", func(p *patient) { p.Chmod("/var/log/stopguard", 0o777) }, "record: warning"},
		{"no folder of records", "it is made when there is something to record", func(p *patient) { p.Remove("/var/log/stopguard") }, ""},
		{"a full disk", "", func(p *patient) { p.doctor.free = func(string) (uint64, error) { return 1 << 20, nil } }, "record-space: warning"},
		{"a disk that does not say", "", func(p *patient) { p.doctor.free = func(string) (uint64, error) { return 0, syscall.EIO } }, "record-space: unknown"},

		{"no state folder beside a daemon", "the dead could not be told", func(p *patient) { p.Remove("/run/libvirt") }, "state: failure"},
		{"no state folder and no daemon", "libvirt makes it", func(p *patient) { p.Remove("/run/libvirt"); p.Remove("/proc/4711") }, ""},
		{"a state folder that is none", "", func(p *patient) { p.Put("/run/libvirt/qemu", "", 0o600) }, "state: failure"},

		{"no systemd", "", func(p *patient) { p.Remove("/usr/lib/systemd") }, "shutdown-unit: warning"},
		{"no shutdown unit", "", func(p *patient) { p.Remove(host.UnitFolder) }, "shutdown-unit: warning"},
		{"a changed shutdown unit", "", func(p *patient) { p.Put(host.UnitFolder+"/"+host.ShutdownUnit, "[Unit]\n", 0o644) }, "shutdown-unit: warning"},
		{"what a failed migration left", "nothing runs in it, and it holds memory", func(p *patient) {
			p.Husk(4800, "came", "paused", "migration", "<job type='none' async='none'/>", "-incoming", "defer")
		}, "husks: warning"},
		{"a migration that is coming", "", func(p *patient) {
			p.Husk(4800, "came", "paused", "migration", "<job type='none' async='migration in' phase='prepare'/>", "-incoming", "defer")
		}, ""},
		{"the source of a broken migration", "it may hold the only copy", func(p *patient) {
			p.Husk(4800, "came", "paused", "migration", "", "-S")
		}, ""},
		{"a guest that came by migration and runs", "it keeps the argument", func(p *patient) {
			p.Husk(4800, "came", "running", "migrated", "", "-incoming", "defer")
		}, ""},
		{"a shutdown unit that is not enabled", "", func(p *patient) { p.Remove(host.UnitFolder + "/multi-user.target.wants") }, "shutdown-unit: warning"},
		{"a shutdown unit that is not started", "", func(p *patient) { p.Systemd(map[string]string{"ActiveState": "inactive"}) }, "shutdown-unit: warning"},
		{"a shutdown unit of a package", "", func(p *patient) {
			p.Remove(host.UnitFolder + "/" + host.ShutdownUnit)
			p.Put("/usr/lib/systemd/system/"+host.ShutdownUnit, host.ShutdownUnitText, 0o644)
		}, ""},
		{"a flag that was left over", "nothing is enforced", func(p *patient) { p.Put(hostpath.ShuttingDown, "", 0o644) }, "shutting-down: failure"},
		{"a flag that everybody could have set", "it is not heeded", func(p *patient) { p.Put(hostpath.ShuttingDown, "", 0o666) }, "shutting-down: warning"},
		{"a folder of flags that everybody can change", "a flag in it would not be heeded", func(p *patient) { p.Chmod("/run", 0o1777) }, "shutting-down: warning"},
		{"a systemd that hangs", "its units are not known, and are not taken for inactive", func(p *patient) {
			p.Host.Systemctl = func(args ...string) (string, error) {
				return "", fmt.Errorf("systemctl %s: systemd did not answer within 10s; look at its log", strings.Join(args, " "))
			}
		}, "systemd: unknown"},
		{"a host that shuts down", "", func(p *patient) {
			p.Put(hostpath.ShuttingDown, "", 0o644)
			p.Systemd(map[string]string{"is-system-running": "stopping"})
		}, ""},
	}
	healthy := newPatient(t)
	planted := map[string]bool{"hook-starts": true} // below
	for _, tt := range tests {
		id, _, _ := strings.Cut(tt.want, ":")
		planted[id] = true
		t.Run(tt.name, func(t *testing.T) {
			p := healthy.sub(t)
			tt.plant(p)
			r := p.examine(context.Background())
			want := []string{}
			if tt.want != "" {
				want = append(want, tt.want)
			}
			if diff := cmp.Diff(want, ill(r)); diff != "" {
				t.Errorf("%s\n%s\n%+v", tt.why, diff, r.Findings)
			}
			for _, f := range r.Findings {
				if f.Severity != severityOK && (f.Cure == "" || strings.Contains(f.What, "; ") && f.Cure == "correct this") {
					t.Errorf("%s: %q has no cure", f.ID, f.What)
				}
			}
		})
	}
	for _, f := range healthy.examine(context.Background()).Findings {
		if !planted[f.ID] && f.ID != "other-hooks" && f.ID != "deletes" {
			t.Errorf("no row plants %s", f.ID)
		}
	}
}

func TestDoctorTellsWhatElseRuns(t *testing.T) {
	p := newPatient(t)
	p.Put(host.HooksFolder+"/qemu", "#!/bin/sh\n", 0o755)
	p.Put(host.HooksFolder+"/qemu.d/20-network", "#!/bin/sh\n", 0o755)
	p.Process(99, "virtqemud", 1000, time.Now())
	said := map[string]string{}
	r := p.examine(context.Background())
	for _, f := range r.Findings {
		said[f.ID] = f.What
	}
	if r.Severity != severityOK || !strings.Contains(said["other-hooks"], "/qemu, ") || !strings.Contains(said["other-hooks"], "20-network") ||
		!strings.Contains(said["session-daemons"], "uid 1000") {
		t.Errorf("%s %q", r.Severity, said)
	}
}

func TestTheExitCodeIsThatOfAMonitoringPlugin(t *testing.T) {
	healthy := newPatient(t)
	for _, tt := range []struct {
		why   string
		plant func(*patient)
		code  int
	}{
		{"all is well", func(p *patient) {}, 0},
		{"a warning", func(p *patient) { p.Remove(host.UnitFolder) }, 1},
		{"a failure", func(p *patient) { p.Remove(host.HookFile) }, 2},
		{"a failure counts more than a warning", func(p *patient) { p.Remove(host.HookFile); p.Remove(host.UnitFolder) }, 2},
		{"something unknown", func(p *patient) { p.NoLibrary() }, 3},
		{"what is known to be wrong counts more", func(p *patient) { p.NoLibrary(); p.Remove(host.UnitFolder) }, 1},
	} {
		t.Run(tt.why, func(t *testing.T) {
			p := healthy.sub(t)
			tt.plant(p)
			code := 0
			if err := p.run(context.Background(), io.Discard, "table"); err != nil {
				var e *doctorError
				if !errors.As(err, &e) {
					t.Fatal(err)
				}
				code = e.ExitCode()
			}
			if code != tt.code {
				t.Errorf("exits with %d, not %d", code, tt.code)
			}
		})
	}
}

func TestTheTableFitsATerminalAndHarmsNone(t *testing.T) {
	p := newPatient(t)
	p.Put(host.HooksFolder+"/qemu.d/\x1b[2J\u202e"+strings.Repeat("long", 40)+"~", "", 0o755)
	p.Put(host.HookLink+".does", "speak", 0o644)
	var b strings.Builder
	_ = p.run(context.Background(), &b, "table")
	text := b.String()
	first, _, _ := strings.Cut(text, "\n")
	if !strings.HasPrefix(first, "Does this libvirt call the stop hook? YES:") {
		t.Errorf("first line %q", first)
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if terminal.TextWidth(line) > terminal.Width || strings.ContainsFunc(line, func(r rune) bool { return !terminal.Printable(r) }) {
			t.Errorf("%q", line)
		}
	}
	for _, want := range []string{"hook-twins", "program-starts", "\nfailures: 1, warnings: 1, unknown: 0, ok: "} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
}

func TestTheJSONSaysTheSame(t *testing.T) {
	p := newPatient(t)
	p.Put(host.HooksFolder+"/qemu.d/\x1b[2J~", "", 0o755)
	var b strings.Builder
	_ = p.run(context.Background(), &b, "json")
	var r report
	if err := json.Unmarshal([]byte(b.String()), &r); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"hook-twins: warning"}, ill(r)); diff != "" || r.CallsStop != "yes" || r.Severity != severityWarning {
		t.Errorf("%s\n%s", diff, b.String())
	}
	if strings.Contains(b.String(), "\x1b") {
		t.Error("an escape sequence gets through")
	}
}

func TestDoctorRunsNoProgramThatOthersCanChange(t *testing.T) {
	p := newPatient(t)
	p.Put(host.HookProgram, "#!/bin/sh\n: > "+p.Path("/ran")+"\n", 0o777)
	p.examine(context.Background())
	if p.Exists("/ran") {
		t.Error("it was run")
	}
}

func TestDoctorChangesNothing(t *testing.T) {
	p := newPatient(t)
	before := hosttest.Tree(t, p.Root)
	p.examine(context.Background())
	if diff := cmp.Diff(before, hosttest.Tree(t, p.Root)); diff != "" {
		t.Error(diff)
	}
}

// An old file that is linked into qemu.d now was no hook before.
func TestALinkedHookCameWithItsLink(t *testing.T) {
	p := newPatient(t)
	p.Put("/etc/front", hookproto.Front, 0o755)
	time.Sleep(50 * time.Millisecond) // more than the kernel's clock of files is coarse
	p.Link("../../../front", host.HookFile)
	file, err := os.Stat(p.Path("/etc/front"))
	p.Must(err)
	hooks := p.Hooks()
	if len(hooks) != 1 || !hooks[0].Came.After(host.Changed(file)) {
		t.Errorf("%+v", hooks)
	}
}

func TestDoctor_puts_a_blank_behind_the_longest_name(t *testing.T) {
	var out strings.Builder
	r := report{CallsStop: "no", Why: "it does not", Findings: []finding{{ID: "gate-monitor-peers", Severity: severityOK, What: "nobody is connected"}}}
	if err := r.print(&out); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "gate-monitor-peers nobody is connected\n") {
		t.Error(out.String())
	}
}

func TestDoctorStartsTheHookAsItStands(t *testing.T) {
	healthy := newPatient(t)
	for _, tt := range []struct {
		why   string
		plant func(*patient)
		says  string
	}{
		{"its interpreter is missing", func(p *patient) {
			p.Put(host.HookFile, strings.Replace(hookproto.Front, "#!/bin/sh", "#!/bin/missing", 1), 0o755)
		}, "cannot be started"},
		{"it ends with 126, which kills guests on reconnect", func(p *patient) {
			p.Put(host.HookFile, strings.Replace(hookproto.Front, "#!/bin/sh\n", "#!/bin/sh\nexit 126\n", 1), 0o755)
		}, "ended with exit status 126"},
		{"it was edited on Windows", func(p *patient) {
			p.Put(host.HookFile, strings.ReplaceAll(hookproto.Front, "\n", "\r\n"), 0o755)
		}, "cannot be started"},
		{"its file system is mounted with noexec", func(p *patient) {
			p.Noexec(host.HooksFolder + "/qemu.d")
			p.Put(host.HookFile, hookproto.Front, 0o755)
		}, "noexec"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			p := healthy.sub(t)
			tt.plant(p)
			for _, f := range p.examine(context.Background()).Findings {
				if f.ID != "hook-starts" {
					continue
				}
				if f.Severity != severityFailure || !strings.Contains(f.What, tt.says) || f.Cure == "" {
					t.Errorf("%+v", f)
				}
				return
			}
			t.Error("the hook was not started")
		})
	}
}
