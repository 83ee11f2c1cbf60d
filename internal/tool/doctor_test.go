package tool

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
	"github.com/stopguard/stopguard/internal/hostpath"
)

// ill gives the findings that are not ok, as "id: severity".
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
	p := healthy(t)
	r := p.examine(context.Background())
	if diff := cmp.Diff([]string{}, ill(r)); diff != "" || r.CallsStop != "yes" || r.Severity != severityOK {
		t.Errorf("%s\n%+v", diff, r)
	}
}

// Each row makes a healthy host ill in one way, and doctor finds that, and nothing else.
func TestDoctorFindsEachFaultAndNoOther(t *testing.T) {
	// Not many formats of a program can be made up: this one is built.
	foreign := foreignProgram(t)
	tests := []struct {
		name, why string
		plant     func(p *patient)
		want      string // "" if it is no fault
	}{
		{"a libvirt without stop", "every released one",
			func(p *patient) { p.library(stockOperations) }, "stop-operation: warning"},
		{"a libvirt with a table of another form", "",
			func(p *patient) { p.library([]string{"stop"}) }, "stop-operation: unknown"},
		{"a library that is none", "",
			func(p *patient) { p.put(libraryPath, "stop", 0o644) }, "stop-operation: unknown"},
		{"a library that was replaced", "the daemon runs with the old one until it is restarted",
			func(p *patient) {
				p.put(fmt.Sprintf("/proc/%d/maps", daemonPID), "7f00-7f01 r-xp 00000000 08:01 42   "+libraryPath+" (deleted)\n", 0o444)
			}, "stop-operation: unknown"},
		{"no library", "",
			func(p *patient) { p.noLibrary() }, "stop-operation: unknown"},
		{"no library, and a stop in the record", "only a hook that libvirt called writes one",
			func(p *patient) { p.noLibrary(); p.recorded("veto", time.Hour) }, ""},
		{"no library, and an old stop in the record", "it may have been another libvirt's",
			func(p *patient) { p.noLibrary(); p.recorded("veto", -time.Hour) }, "stop-operation: unknown"},
		{"no library and no daemon, and a stop in the record", "somebody ran the hook by hand",
			func(p *patient) {
				p.noLibrary()
				p.recorded("veto", time.Hour)
				p.remove(fmt.Sprintf("/proc/%d", daemonPID))
			}, "stop-operation: unknown"},
		{"no library, and a request to stop in the record", "a gate asked, which works with any libvirt",
			func(p *patient) {
				p.noLibrary()
				p.recorded("veto", time.Hour)
				const file = "/var/log/stopguard/decisions.jsonl"
				p.put(file, strings.ReplaceAll(p.content(file), `"veto"`, `"veto", "request": {"operation": "stop", "uid": 0}`), 0o600)
			}, "stop-operation: unknown"},
		{"no library, and an escape in the record", "any libvirt calls release",
			func(p *patient) { p.noLibrary(); p.recorded("escape", time.Hour) }, "stop-operation: unknown"},

		{"no hook", "", func(p *patient) { p.remove(hookFile) }, "hook-installed: failure"},
		{"a hook of another name", "it runs all the same",
			func(p *patient) { p.remove(hookFile); p.put(hooksFolder+"/qemu.d/10-guard", hookproto.Front, 0o755) }, ""},
		{"switched off", "chmod -x is how, and somebody may forget it",
			func(p *patient) { p.chmod(hookFile, 0o644) }, "hook-executable: failure"},
		{"also as hooks/qemu", "the way of older guides",
			func(p *patient) { p.put(hooksFolder+"/qemu", hookproto.Front, 0o755) }, "hook-once: warning"},
		{"also as hooks/qemu, without a front", "",
			func(p *patient) { p.program(hooksFolder + "/qemu") }, "hook-once: warning"},
		{"twice in qemu.d", "hidden names run too",
			func(p *patient) { p.put(hooksFolder+"/qemu.d/.50-stopguard", hookproto.Front, 0o755) }, "hook-once: warning"},
		{"a second one that is off", "",
			func(p *patient) { p.put(hooksFolder+"/qemu.d/60-stopguard", hookproto.Front, 0o644) }, ""},
		{"a hook that everybody can change", "root runs it",
			func(p *patient) { p.chmod(hookFile, 0o777) }, "hook-owner: failure"},
		{"a changed hook", "",
			func(p *patient) { p.put(hookFile, hookproto.Front+"# mine\n", 0o755) }, "hook-content: warning"},
		{"a hook that is not ours in its place", "it is run for every operation",
			func(p *patient) { p.put(hookFile, "#!/bin/sh\nexit 0\n", 0o755) }, "hook-content: failure"},
		{"an empty hook", "it cannot be run, which kills guests on reconnect",
			func(p *patient) { p.put(hookFile, "", 0o755) }, "hook-content: failure"},
		{"a hook without a front", "",
			func(p *patient) { p.program(hookFile) }, "hook-content: warning"},
		{"a left-over of the package manager", "", func(p *patient) {
			p.put(hooksFolder+"/qemu.d/50-stopguard.dpkg-new", hookproto.Front, 0o755)
		}, "hook-twins: warning"},
		{"a left-over of an editor", "",
			func(p *patient) { p.put(hooksFolder+"/qemu.d/20-network~", "#!/bin/sh\n", 0o755) }, "hook-twins: warning"},
		{"a left-over that does not run", "",
			func(p *patient) { p.put(hooksFolder+"/qemu.d/50-stopguard.bak", hookproto.Front, 0o644) }, ""},
		{"a hook of somebody else", "is none of ours",
			func(p *patient) { p.put(hooksFolder+"/qemu.d/20-network", "#!/bin/sh\n", 0o755) }, ""},

		{"no program", "", func(p *patient) { p.remove(hookProgram) }, "program: failure"},
		{"an empty program", "after a crash", func(p *patient) { p.put(hookProgram, "", 0o755) }, "program: failure"},
		{"a folder for a program", "", func(p *patient) { p.remove(hookProgram); p.folder(hookProgram) }, "program: failure"},
		{"a program that is not executable", "", func(p *patient) { p.put(hookProgram, "\x7fELF", 0o644) }, "program: failure"},
		{"a program of zeros", "after a crash", func(p *patient) { p.put(hookProgram, "\x00\x00\x00\x00", 0o755) }, "program-machine: failure"},
		{"a program for another machine", "", func(p *patient) {
			other := libraryHere(nil)
			other.machine = elf.EM_SPARC
			p.put(hookProgram, string(other.bytes()), 0o755)
		}, "program-machine: failure"},
		{"half a program", "a copy that broke off", func(p *patient) {
			whole, err := os.ReadFile(foreign)
			p.must(err)
			p.put(hookProgram, string(whole[:len(whole)/2]), 0o755)
		}, "program-machine: failure"},
		{"a program of somebody else", "it may allow everything", func(p *patient) {
			content, err := os.ReadFile(foreign)
			p.must(err)
			p.put(hookProgram, string(content), 0o755)
		}, "program-library: failure"},
		{"a script for a program", "",
			func(p *patient) { p.put(hookProgram, "#!/bin/sh\nexit 0\n", 0o755) }, "program-library: unknown"},
		{"a program in a folder that everybody can change", "root runs it",
			func(p *patient) {
				p.programIs("/usr/bin/free/hook")
				p.program("/usr/bin/free/hook")
				p.chmod("/usr/bin/free", 0o777)
			}, "program-owner: failure"},
		{"a thin program that works", "", func(p *patient) { p.thin() }, ""},
		{"a thin program of zeros", "the front would run it", func(p *patient) { p.thin(); p.put(thinProgram, "\x00\x00\x00\x00", 0o755) }, "thin-machine: failure"},
		{"a thin program that is gone", "the front runs the other", func(p *patient) { p.thin(); p.remove(thinProgram) }, "thin: warning"},
		{"an empty thin program", "the front runs the other", func(p *patient) { p.thin(); p.put(thinProgram, "", 0o755) }, "thin: warning"},
		{"a thin program beside the link to the other", "as an older version installed it", func(p *patient) { p.program(thinLink) }, ""},
		{"a thin program that AppArmor does not let run", "the front would run it, and every stop be a fault", func(p *patient) {
			p.put("/etc/apparmor.d/usr.sbin.libvirtd", debianProfile, 0o644)
			p.program(thinLink)
		}, "apparmor: failure"},
		{"a thin program that fails", "", func(p *patient) { p.thin(); p.put(thinLink+".does", "fail", 0o644) }, "thin-starts: failure"},
		{"a thin program that others may change", "root runs it", func(p *patient) {
			p.thin()
			p.put(thinProgram, p.content(thinProgram), 0o777)
		}, "thin-owner: failure"},
		{"a program that fails", "", func(p *patient) { p.put(hookLink+".does", "fail", 0o644) }, "program-starts: failure"},
		{"a program that speaks", "its output could become a domain's XML", func(p *patient) { p.put(hookLink+".does", "speak", 0o644) }, "program-starts: failure"},
		{"a program that hangs", "", func(p *patient) { p.put(hookLink+".does", "hang", 0o644); p.patience = time.Second }, "program-starts: failure"},

		{"a program where AppArmor lets nothing run", "", func(p *patient) {
			p.programIs("/opt/hook")
			p.program("/opt/hook")
		}, "apparmor: failure"},
		{"a link to where AppArmor lets nothing run", "what counts is where it leads", func(p *patient) {
			p.program("/opt/hook")
			p.link("../../opt/hook", hookLink)
		}, "apparmor: failure"},
		{"a link to another program", "what install puts in /usr/sbin would not run", func(p *patient) {
			p.copied("/usr/sbin/old-hook")
			p.link("../sbin/old-hook", hookLink)
		}, "program-place: warning"},
		{"a link that leads nowhere", "", func(p *patient) { p.link("../sbin/none", hookLink) }, "program: failure"},
		{"an absolute link", "it leads out of the root that these tests have", func(p *patient) { p.link(p.path(hookProgram), hookLink) }, ""},
		{"a link in a folder that everybody can change", "they could have it lead elsewhere",
			func(p *patient) { p.chmod("/usr/libexec", 0o777) }, "program-owner: failure"},
		{"a copy and not a link", "what install puts in /usr/sbin would not run", func(p *patient) { p.copied(hookLink) }, "program-place: warning"},
		{"a program where older versions installed it", "", func(p *patient) { p.remove(hookProgram); p.program(hookLink) }, ""},
		{"a program there, and a profile that names only some of /usr/libexec", "so it is on Debian", func(p *patient) {
			p.put("/etc/apparmor.d/usr.sbin.libvirtd", debianProfile, 0o644)
			p.remove(hookProgram)
			p.program(hookLink)
		}, "apparmor: failure"},
		{"a link out of there to /usr/sbin", "so install and the package do it",
			func(p *patient) { p.put("/etc/apparmor.d/usr.sbin.libvirtd", debianProfile, 0o644) }, ""},
		{"/usr/sbin that is /usr/bin", "so it is on Fedora", func(p *patient) {
			p.remove("/usr/sbin")
			p.program("/usr/bin/stopguard-hook")
			p.link("bin", "/usr/sbin")
		}, ""},
		{"a program that the site has added to the profile", "", func(p *patient) {
			p.programIs("/opt/hook")
			p.program("/opt/hook")
			p.put("/etc/apparmor.d/local/usr.sbin.libvirtd", "# ours\n  /opt/hook PUx,\n", 0o644)
		}, ""},
		{"a profile that only complains", "", func(p *patient) {
			p.programIs("/opt/hook")
			p.program("/opt/hook")
			p.put("/sys/kernel/security/apparmor/profiles", "libvirtd (complain)\n", 0o444)
		}, ""},
		{"SELinux, and no label that can be read", "",
			func(p *patient) { p.put("/sys/fs/selinux/enforce", "1", 0o444) }, "selinux: unknown"},
		{"SELinux, and another label", "", func(p *patient) {
			p.put("/sys/fs/selinux/enforce", "1", 0o444)
			p.label = func(string) (string, error) { return "system_u:object_r:etc_t:s0", nil }
		}, "selinux: warning"},
		{"SELinux, and the right label", "", func(p *patient) {
			p.put("/sys/fs/selinux/enforce", "1", 0o444)
			p.label = func(string) (string, error) { return "system_u:object_r:virt_hook_t:s0", nil }
		}, ""},
		{"SELinux, permissive", "", func(p *patient) { p.put("/sys/fs/selinux/enforce", "0", 0o444) }, ""},

		{"a daemon that is older than the hook", "it may have got a SIGHUP",
			func(p *patient) { p.daemonStarted(-time.Hour) }, "hook-noticed: unknown"},
		{"a daemon that systemd has not reloaded since", "", func(p *patient) {
			p.daemonStarted(-time.Hour)
			p.systemd(map[string]string{"StateChangeTimestamp": at(time.Now().Add(-time.Hour))})
		}, "hook-noticed: warning"},
		{"a daemon that systemd has reloaded since", "", func(p *patient) {
			p.daemonStarted(-time.Hour)
			p.systemd(map[string]string{"StateChangeTimestamp": at(time.Now().Add(time.Minute))})
		}, ""},
		{"a daemon that started at the moment when the hook came", "it may know it, so it must not be said that it asks nobody", func(p *patient) {
			p.daemonStarted(0)
			p.systemd(map[string]string{"StateChangeTimestamp": at(time.Now())})
		}, "hook-noticed: unknown"},
		{"a daemon that systemd does not know", "", func(p *patient) {
			p.daemonStarted(-time.Hour)
			p.systemd(map[string]string{"StateChangeTimestamp": ""})
		}, "hook-noticed: unknown"},
		{"no daemon", "one that starts will notice", func(p *patient) { p.remove("/proc/4711") }, ""},
		{"no processes to be seen", "", func(p *patient) { p.remove("/proc") }, "hook-noticed: unknown"},

		{"a list that everybody can change", "", func(p *patient) { p.chmod(hostpath.List, 0o666) }, "list: failure"},
		{"a list that is a link", "", func(p *patient) { p.link("hosts", hostpath.List) }, "list: failure"},
		{"a list that cannot be understood", "", func(p *patient) { p.put(hostpath.List, "[\n", 0o644) }, "list: failure"},
		{"a list of names in quotes", "", func(p *patient) { p.put(hostpath.List, "\"web-01\"\n", 0o644) }, "list-entries: warning"},
		{"no list", "it may be missing", func(p *patient) { p.remove(hostpath.List) }, ""},
		{"half a rule", "", func(p *patient) { p.put(hostpath.Policy+"/half.rego", "package", 0o644) }, "policy: failure"},
		{"a rule that everybody can change", "", func(p *patient) {
			p.put(hostpath.Policy+"/ours.rego", "package stopguard.rules.ours\n", 0o666)
		}, "policy: failure"},
		{"a folder of rules that everybody can change", "", func(p *patient) { p.chmod(hostpath.Policy, 0o777) }, "policy: failure"},
		{"a file that is no rule", "", func(p *patient) { p.put(hostpath.Policy+"/ours.rego.bak", "", 0o644) }, "policy: failure"},
		{"a bundle that is none", "", func(p *patient) { p.put("/etc/stopguard/bundle.tar.gz", "x", 0o644) }, "policy: failure"},
		{"no rules", "they may be missing", func(p *patient) { p.remove("/etc/stopguard") }, ""},
		{"a setting that belongs to no rule", "", func(p *patient) { p.settings(`{"site": {"calender": {}}}`) }, "settings: failure"},
		{"a setting that cannot be", "", func(p *patient) { p.settings(`{"site": {"monitor": 1}}`) }, "settings: failure"},
		{"nothing but monitoring", "", func(p *patient) { p.settings(`{"site": {"monitor": ["*"]}}`) }, "settings: warning"},
		{"a rule that is monitored", "somebody tries it out", func(p *patient) { p.settings(`{"site": {"monitor": ["protected_list"]}}`) }, ""},

		{"Pacemaker", "", func(p *patient) { p.process(99, "pacemakerd", 0, time.Now()) }, "cluster: warning"},
		{"Pacemaker that does not run just now", "", func(p *patient) { p.put("/var/lib/pacemaker/cib/cib.xml", "", 0o600) }, "cluster: warning"},
		{"oVirt", "", func(p *patient) { p.process(99, "vdsmd", 36, time.Now()) }, "cluster: warning"},
		{"Nova", "", func(p *patient) { p.process(99, "nova-compute", 162, time.Now()) }, "cluster: warning"},
		{"Proxmox", "", func(p *patient) { p.process(99, "pve-ha-lrm", 0, time.Now()) }, "cluster: warning"},
		{"Nova, and the domains that it runs are listed", "", func(p *patient) {
			p.process(99, "nova-compute", 162, time.Now())
			p.settings(`{"site": {"cluster_managed": ["instance-*"]}}`)
		}, ""},
		{"Nova, and it is said that it runs none", "in a folder, as YAML", func(p *patient) {
			p.process(99, "nova-compute", 162, time.Now())
			p.put(hostpath.Policy+"/site/data.yaml", "cluster_managed: []\n", 0o644)
		}, ""},

		{"a ticket that cannot be read", "", func(p *patient) {
			p.put("/var/lib/stopguard/tickets/0123456789abcdef.json", "{", 0o600)
		}, "tickets: warning"},
		{"tickets that everybody can write", "", func(p *patient) {
			p.folder("/var/lib/stopguard/tickets")
			p.chmod("/var/lib/stopguard/tickets", 0o777)
		}, "tickets: warning"},

		{"a record that is a link", "", func(p *patient) { p.link("/dev/null", "/var/log/stopguard/decisions.jsonl") }, "record: warning"},
		{"a record that is a folder", "", func(p *patient) { p.folder("/var/log/stopguard/decisions.jsonl") }, "record: warning"},
		{"a folder of records that is a file", "", func(p *patient) { p.put("/var/log/stopguard", "", 0o600) }, "record: warning"},
		{"a folder of records that everybody can write", "", func(p *patient) { p.chmod("/var/log/stopguard", 0o777) }, "record: warning"},
		{"no folder of records", "it is made when there is something to record", func(p *patient) { p.remove("/var/log/stopguard") }, ""},
		{"a full disk", "", func(p *patient) { p.free = func(string) (uint64, error) { return 1 << 20, nil } }, "record-space: warning"},
		{"a disk that does not say", "", func(p *patient) { p.free = func(string) (uint64, error) { return 0, syscall.EIO } }, "record-space: unknown"},

		{"no state folder beside a daemon", "the dead could not be told", func(p *patient) { p.remove("/run/libvirt") }, "state: failure"},
		{"no state folder and no daemon", "libvirt makes it", func(p *patient) { p.remove("/run/libvirt"); p.remove("/proc/4711") }, ""},
		{"a state folder that is none", "", func(p *patient) { p.put("/run/libvirt/qemu", "", 0o600) }, "state: failure"},

		{"no systemd", "", func(p *patient) { p.remove("/usr/lib/systemd") }, "shutdown-unit: warning"},
		{"no shutdown unit", "", func(p *patient) { p.remove(unitFolder) }, "shutdown-unit: warning"},
		{"a changed shutdown unit", "", func(p *patient) { p.put(unitFolder+"/"+shutdownUnit, "[Unit]\n", 0o644) }, "shutdown-unit: warning"},
		{"a shutdown unit that is not enabled", "", func(p *patient) { p.remove(unitFolder + "/multi-user.target.wants") }, "shutdown-unit: warning"},
		{"a shutdown unit that is not started", "", func(p *patient) { p.systemd(map[string]string{"ActiveState": "inactive"}) }, "shutdown-unit: warning"},
		{"a shutdown unit of a package", "", func(p *patient) {
			p.remove(unitFolder + "/" + shutdownUnit)
			p.put("/usr/lib/systemd/system/"+shutdownUnit, shutdownUnitText, 0o644)
		}, ""},
		{"a flag that was left over", "nothing is enforced", func(p *patient) { p.put(shuttingDown, "", 0o644) }, "shutting-down: failure"},
		{"a flag that everybody could have set", "it is not heeded", func(p *patient) { p.put(shuttingDown, "", 0o666) }, "shutting-down: warning"},
		{"a folder of flags that everybody can change", "a flag in it would not be heeded", func(p *patient) { p.chmod("/run", 0o1777) }, "shutting-down: warning"},
		{"a host that shuts down", "", func(p *patient) {
			p.put(shuttingDown, "", 0o644)
			p.systemd(map[string]string{"is-system-running": "stopping"})
		}, ""},
	}
	planted := map[string]bool{}
	for _, tt := range tests {
		id, _, _ := strings.Cut(tt.want, ":")
		planted[id] = true
		t.Run(tt.name, func(t *testing.T) {
			p := healthy(t)
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
	for _, f := range healthy(t).examine(context.Background()).Findings {
		if !planted[f.ID] && f.ID != "other-hooks" {
			t.Errorf("no row plants %s", f.ID)
		}
	}
}

func TestDoctorTellsWhatElseRuns(t *testing.T) {
	p := healthy(t)
	p.put(hooksFolder+"/qemu", "#!/bin/sh\n", 0o755)
	p.put(hooksFolder+"/qemu.d/20-network", "#!/bin/sh\n", 0o755)
	p.process(99, "virtqemud", 1000, time.Now())
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
	for _, tt := range []struct {
		why   string
		plant func(*patient)
		code  int
	}{
		{"all is well", func(p *patient) {}, 0},
		{"a warning", func(p *patient) { p.library(stockOperations) }, 1},
		{"a failure", func(p *patient) { p.remove(hookFile) }, 2},
		{"a failure counts more than a warning", func(p *patient) { p.remove(hookFile); p.library(stockOperations) }, 2},
		{"something unknown", func(p *patient) { p.noLibrary() }, 3},
		{"what is known to be wrong counts more", func(p *patient) { p.noLibrary(); p.remove(unitFolder) }, 1},
	} {
		t.Run(tt.why, func(t *testing.T) {
			p := healthy(t)
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
	p := healthy(t)
	p.put(hooksFolder+"/qemu.d/\x1b[2J\u202e"+strings.Repeat("long", 40)+"~", "", 0o755)
	p.put(hookLink+".does", "speak", 0o644)
	var b strings.Builder
	_ = p.run(context.Background(), &b, "table")
	text := b.String()
	first, _, _ := strings.Cut(text, "\n")
	if !strings.HasPrefix(first, "Does this libvirt call the stop hook? YES:") {
		t.Errorf("first line %q", first)
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if textWidth(line) > width || strings.ContainsFunc(line, func(r rune) bool { return !printable(r) }) {
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
	p := healthy(t)
	p.put(hooksFolder+"/qemu.d/\x1b[2J~", "", 0o755)
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
	p := healthy(t)
	p.put(hookProgram, "#!/bin/sh\n: > "+p.path("/ran")+"\n", 0o777)
	p.examine(context.Background())
	if p.exists("/ran") {
		t.Error("it was run")
	}
}

func TestDoctorChangesNothing(t *testing.T) {
	p := healthy(t)
	before := tree(t, p.root)
	p.examine(context.Background())
	if diff := cmp.Diff(before, tree(t, p.root)); diff != "" {
		t.Error(diff)
	}
}

// An old file that is linked into qemu.d now was no hook before.
func TestALinkedHookCameWithItsLink(t *testing.T) {
	p := healthy(t)
	p.put("/etc/front", hookproto.Front, 0o755)
	time.Sleep(50 * time.Millisecond) // more than the kernel's clock of files is coarse
	p.link("../../../front", hookFile)
	file, err := os.Stat(p.path("/etc/front"))
	p.must(err)
	hooks := p.readHooks()
	if len(hooks) != 1 || !hooks[0].came.After(changed(file)) {
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
