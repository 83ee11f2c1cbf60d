//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// A host is a machine, and what is reported of it.
type host struct {
	*machine
	t       *testing.T // the chapter's
	chapter string
	report  report
}

// chapters are run in this order; each begins where the one before ended.
var chapters = []struct {
	name string
	run  func(*host)
}{
	{"Installation", (*host).installation},
	{"Calls through the gate", (*host).calls},
	{"Other clients and users", (*host).clients},
	{"AppArmor", (*host).apparmor},
	{"Restarts and upgrades under the gate", (*host).upgrades},
	{"Shutdown and boot", (*host).boots},
	{"Removal", (*host).removal},
	{"This version with the one before", (*host).versions},
}

func TestAHost(t *testing.T) {
	suite, image := os.Getenv("STOPGUARD_HOSTS_SUITE"), os.Getenv("STOPGUARD_HOSTS_IMAGE")
	packages := os.Getenv("STOPGUARD_HOSTS_PACKAGES")
	if suite == "" || image == "" || packages == "" {
		t.Fatal("STOPGUARD_HOSTS_SUITE, STOPGUARD_HOSTS_IMAGE and STOPGUARD_HOSTS_PACKAGES are not set; run .ci/hosts")
	}
	start := time.Now()
	h := &host{machine: newMachine(t, image, media(t, packages)), t: t}
	h.report = report{Suite: suite, Date: time.Now().UTC().Format(time.DateOnly), Versions: versionsOf(t, packages, image)}
	if h.ssh("root", "test -e /srv/media").exit != 0 {
		h.must(mountMedia)
	}
	reportFile := os.Getenv("STOPGUARD_HOSTS_REPORT")
	if os.Getenv("STOPGUARD_HOSTS_PORT") != "" {
		h.read(reportFile)
	}
	for i, c := range chapters {
		passed := t.Run(c.name, func(t *testing.T) {
			h.t, h.machine.t, h.chapter = t, t, c.name
			h.report.Steps = slices.DeleteFunc(h.report.Steps, func(s step) bool { return s.Chapter == c.name })
			c.run(h)
		})
		// A run that is ended early leaves what it found.
		h.t, h.machine.t = t, t
		h.report.Minutes = int(time.Since(start).Round(time.Minute).Minutes())
		if reportFile != "" {
			h.write(reportFile)
		}
		if i == 0 && !passed {
			return // the rest is about a host on which it is installed
		}
	}
}

// read reads the report of the chapters that were run on the same machine before.
func (h *host) read(file string) {
	content, err := os.ReadFile(file)
	if err != nil {
		return
	}
	var before report
	if err := json.Unmarshal(content, &before); err != nil {
		h.t.Fatalf("%s: %v", file, err)
	}
	h.report.Steps = before.Steps
}

func (h *host) write(file string) {
	content, err := json.MarshalIndent(h.report, "", "\t")
	if err == nil {
		err = os.WriteFile(file, append(content, '\n'), 0o644)
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

// versionsOf reads the versions that .ci/host-image and .ci/hosts noted.
func versionsOf(t *testing.T, packages, image string) []version {
	t.Helper()
	var all []version
	for _, folder := range []string{packages, image} {
		content, err := os.ReadFile(filepath.Join(folder, "versions"))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(content)) {
			part, v, _ := strings.Cut(strings.TrimSpace(line), " ")
			all = append(all, version{part, v})
		}
	}
	return all
}

// Guests. pg-01 is protected by a mark against all operations, db-01 by the list against a stop.
const (
	pg   = "pg-01"
	db   = "db-01"
	web  = "web-01"
	away = "pg-02" // pg-01's double that is off
)

var guests = map[string]string{
	pg:   "5b4d5b3c-6f53-4b8a-8a5e-9f7f6b6a0c11",
	db:   "9a8f1f0e-7f0b-4a6e-9d6b-7b5a3f1d2c44",
	web:  "3c9e4d35-0b0b-4d05-8e0e-2f4d0f3b7a55",
	away: "3c9e4d35-0b0b-4d05-8e0e-2f4d0f3b7a56",
}

func guestXML(name string) string {
	return fmt.Sprintf(`<domain type='qemu'>
  <name>%s</name>
  <uuid>%s</uuid>
  <memory unit='MiB'>16</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type><loader type='rom'>/var/lib/libvirt/images/guest.rom</loader></os>
  <features><acpi/><apic/></features>
  <devices>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
  </devices>
</domain>
`, name, guests[name])
}

// media makes a disk with the packages and the guests' files, which the machine mounts: a copy by
// SSH takes minutes.
func media(t *testing.T, packages string) string {
	t.Helper()
	folder := t.TempDir()
	if err := os.CopyFS(folder, os.DirFS(packages)); err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{"guest.rom": firmware()}
	for name := range guests {
		files[name+".xml"] = []byte(guestXML(name))
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	disk := filepath.Join(t.TempDir(), "media.ext4")
	if out, err := exec.Command("mke2fs", "-q", "-t", "ext4", "-d", folder, disk, "600M").CombinedOutput(); err != nil {
		t.Fatalf("mke2fs: %v\n%s", err, out)
	}
	return disk
}

// mountMedia also leaves out most of systemd's generators, for hardware that the machine does not
// have: they run at each reload of systemd, and take a minute of a slow machine.
const mountMedia = `mkdir -p /etc/systemd/system-generators
for g in bless-boot cryptsetup debug factory-reset gpt-auto hibernate-resume import integritysetup rc-local run ssh system-update tpm2 veritysetup; do
  ln -sf /dev/null /etc/systemd/system-generators/systemd-$g-generator
done
echo '/dev/vdb /srv/media ext4 ro 0 0' >>/etc/fstab; mkdir /srv/media; systemctl daemon-reload; mount /srv/media
cp /srv/media/guest.rom /var/lib/libvirt/images; cp /srv/media/*.xml /srv; chmod 644 /srv/*.xml`

// An expectation of a command.
type expectation struct {
	exit int
	text string // a regular expression that its output matches
}

var works = expectation{}

func prints(text string) expectation { return expectation{0, text} }

func fails(text string) expectation { return expectation{1, text} }

func vetoed(name string) expectation {
	return expectation{1, `stopguard: veto: ` + regexp.QuoteMeta(name) + `: `}
}

// shell is read before each command. A hook that has not decided in time is asked again: the
// machine is slow.
const shell = `export SYSTEMD_BUS_TIMEOUT=30min LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive
unset LIBVIRT_DEFAULT_URI; export LIBVIRT_DEFAULT_URI=qemu:///system
past='qemu:///system?socket=/run/stopguard-up/libvirt-sock' hook=/etc/libvirt/hooks/qemu.d/50-stopguard
within() { for _ in $(seq "$1"); do if eval "$2"; then return; fi; sleep 1; done >/dev/null 2>&1; echo "not within $1 s: $2"; return 1; }
pids() { for f in /run/libvirt/qemu/*-0?.pid; do printf '%s ' "$(cat "$f")"; done; }
pid() { systemctl show --property=MainPID --value "$1"; }
confined() {
  local said status
  for _ in $(seq 20); do
    status=0
    said=$(aa-exec -p "$1" -- env -i LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root "$2" "$3" stop begin - <"/tmp/$3.live" 2>&1) || status=$?
    case $said in *'no decision within'*) sleep 1 ;; *) break ;; esac
  done
  [ -z "$said" ] || printf '%s\n' "$said"
  return $status
}
check() { virsh dumpxml "$1" >/tmp/check.xml && stopguard check /tmp/check.xml; }
ticket() { stopguard ticket grant "$@" --reason 'a test' | sed -n 's/^ticket \([^:]*\):.*/\1/p'; }
state() { virsh domstate "$1" | head -n 1; }
`

// tooSlow matches the answer of a program that gave up because the machine is slow. The command is
// run again.
var tooSlow = regexp.MustCompile("no decision within|took too long|did not end within|did not answer")

// as runs a command as a user and reports whether it does what is expected.
func (h *host) as(user, name, command string, want expectation) answer {
	h.t.Helper()
	start := time.Now()
	got := h.ssh(user, shell+command)
	for range 10 {
		if !tooSlow.MatchString(got.text) {
			break
		}
		got = h.ssh(user, shell+command)
	}
	passed := got.exit == want.exit && regexp.MustCompile(want.text).MatchString(got.text)
	h.note(name, passed, "")
	mark := "yes"
	if !passed {
		mark = "NO "
		h.t.Errorf("%s\n  %s: %s\n  want %d, %q\n  got  %d, %s", name, user, command, want.exit, want.text, got.exit, got.text)
	}
	fmt.Printf("%s %5.1fs  %s: %s# %s => %d %s\n", mark, time.Since(start).Seconds(), name, user, oneLine(command, 100), got.exit, oneLine(got.text, 160))
	return got
}

func (h *host) do(name, command string, want expectation) answer {
	h.t.Helper()
	return h.as("root", name, command, want)
}

// must runs a command that is not a step. The chapter ends if it fails.
func (h *host) must(command string) string {
	h.t.Helper()
	got := h.ssh("root", shell+"set -e\n"+command)
	if got.exit != 0 {
		h.t.Fatalf("%s\n%d, %s", command, got.exit, got.text)
	}
	return strings.TrimSpace(got.text)
}

// note adds a step to the report. A step that is done several times passes if it does each time.
func (h *host) note(name string, passed bool, note string) {
	i := slices.IndexFunc(h.report.Steps, func(s step) bool { return s.Chapter == h.chapter && s.Name == name })
	if i < 0 {
		h.report.Steps = append(h.report.Steps, step{h.chapter, name, passed, note})
		return
	}
	h.report.Steps[i].Passed = h.report.Steps[i].Passed && passed
}

func oneLine(text string, limit int) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > limit {
		return text[:limit] + "..."
	}
	return text
}

// doctor expects every line of doctor's to be ok.
func (h *host) doctor(name string) {
	h.t.Helper()
	h.do(name, `stopguard doctor -o json | python3 -c '
import json, sys
findings = json.load(sys.stdin)["findings"]
for f in findings:
    if f["severity"] != "ok": print(f)
print(sum(f["severity"] == "ok" for f in findings), "of", len(findings), "ok")
sys.exit(any(f["severity"] != "ok" for f in findings))'`, prints("ok"))
}

// same expects the guests' processes to be those that ran before.
func (h *host) same(name, before string) {
	h.t.Helper()
	h.do(name, "pids", prints("^"+regexp.QuoteMeta(before)+" ?$"))
}
