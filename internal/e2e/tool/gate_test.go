//go:build e2e

package e2e

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

const guestXML = `<domain type='qemu'>
  <name>g1</name>
  <uuid>5f3b6c55-0a3e-4c5e-8d8a-6f4d1c0b7e01</uuid>
  <memory unit='MiB'>16</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <features><acpi/></features>
  <devices><controller type='usb' model='none'/><memballoon model='none'/></devices>
</domain>
`

// The rule is against everything that may be done to the guest.
const rule = `package stopguard.rules.site

veto contains "it is kept" if {
	input.operation in {"stop", "delete", "pause", "reset", "move", "modify"}
	input.domain.name == "g1"
}
`

const (
	records = "/var/log/stopguard/decisions.jsonl"
	public  = "/run/libvirt/libvirt-sock" // libvirtd's socket, where clients look for it
)

//go:embed reload.py
var reloadProgram string

var scripts = map[string]func(*host){"operator": operator, "morning": morning, "evening": evening, "next day": nextDay,
	"notifications": notifications, "modular day": modularDay, "modular morning": modularMorning}

// waysToLibvirtd are the URIs by which clients come through a gate before libvirtd.
var waysToLibvirtd = []struct{ name, uri string }{
	{"libvirtd's socket", "qemu:///system"},
	{"ssh", "qemu+ssh://host/system?command=" + shared + "/ssh"},
}

// same reports whether the guest still has the same process.
func (h *host) same(was string) string {
	if now := h.read("/run/libvirt/qemu/g1.pid"); now != was {
		return "another guest: " + now + ", not " + was
	}
	return "the same guest"
}

const hookFile = "/etc/libvirt/hooks/qemu.d/50-stopguard"

// operator installs the gate, uses the host, takes the gate away, installs it again, and switches
// the host off.
func operator(h *host) {
	h.do("libvirt-guests is up", "systemctl", "is-active", "libvirt-guests.service")
	h.file("/tmp/g1.xml", guestXML)
	h.file("/etc/stopguard/policy/site.rego", rule)
	h.do("define", "virsh", "define", "/tmp/g1.xml")
	h.do("start", "virsh", "start", "g1")
	guest := h.read("/run/libvirt/qemu/g1.pid")
	before := h.tree()

	// Its files only.
	h.tool("install without a yes", "install", "--hook", shared+"/stopguard-hook", "--gate", shared+"/stopguard-gate")
	h.see("nothing has moved", 0, "%s", h.show("libvirtd.socket", "Listen"))

	// A gate that does not start.
	false_, _ := os.ReadFile("/bin/false")
	_ = os.WriteFile(shared+"/false", false_, 0o755)
	h.tool("install of a gate that ends", "install", "--hook", shared+"/stopguard-hook", "--gate", shared+"/false", "--restart")
	h.see("libvirtd has its socket", 0, "%s %s", h.show("libvirtd.socket", "Listen"), h.same(guest))
	h.do("virsh without a gate", "virsh", "domstate", "g1")
	_, err := os.Stat("/etc/systemd/system/libvirtd.socket.d/50-stopguard.conf")
	h.see("no drop-in is left", 0, "%v", os.IsNotExist(err))

	k := knockAt(public)
	h.tool("install", "install", "--hook", shared+"/stopguard-hook", "--gate", shared+"/stopguard-gate", "--restart")
	h.see("time without a socket", 0, "%v", k.end())
	h.see("after install", 0, "%s; %s; %s; %s", h.show("libvirtd.socket", "Listen"), h.show("stopguard-gate.socket", "Listen"),
		h.show("stopguard-gate.service", "ActiveState"), h.same(guest))
	for _, path := range []string{"/run/stopguard-up", "/run/stopguard-up/libvirt-sock", "/run/libvirt/libvirt-sock"} {
		info, err := os.Stat(path)
		if err != nil {
			h.see("mode of "+path, 1, "%v", err)
			continue
		}
		h.see("mode of "+path, 0, "%v", info.Mode())
	}
	h.do("virsh through the gate", "virsh", "domstate", "g1")
	h.do("read-only", "virsh", "-r", "domstate", "g1")
	h.do("virt-admin", "virt-admin", "srv-list")
	h.do("a veto", "virsh", "suspend", "g1")
	h.see("its record", 0, "%v", strings.Contains(h.read(records), `"procedure":"DOMAIN_SUSPEND"`))
	h.tool("a ticket", "ticket", "grant", "g1", "--operation", "pause", "--reason", "a test")
	h.do("with the ticket", "virsh", "suspend", "g1")
	h.do("and on", "virsh", "resume", "g1")
	h.do("what the ticket is not for", "virsh", "reset", "g1")
	h.file("/etc/stopguard/gate-off", "")
	h.do("with the gate off", "virsh", "suspend", "g1")
	_ = os.Remove("/etc/stopguard/gate-off")
	h.do("and on again", "virsh", "resume", "g1")
	h.held()
	exit, out := h.commandAs(&syscall.Credential{Uid: 65534, Gid: 65534}, "virsh", "-c", "qemu:///system?socket=/run/stopguard-up/libvirt-sock", "uri")
	h.see("past the gate, as nobody", exit, "%s", out)
	// libvirtd asks polkit, which is missing, about every user but root.
	exit, out = h.commandAs(&syscall.Credential{Uid: 65534, Gid: 65534}, "virsh", "-c", "qemu:///system", "uri")
	h.see("through the gate, as nobody", exit, "%s", out)
	h.doctor("doctor")
	const again, noticed = "chmod -x " + hookFile + " && chmod +x " + hookFile, shared + "/stopguard doctor | grep -o '^[a-z]* *hook-noticed'"
	h.do("a hook that came after libvirtd", "sh", "-c", again+"; "+noticed)
	h.do("a hook, and a reload at once", "sh", "-c", again+" && sleep 0.1 && systemctl reload libvirtd.service && "+noticed)
	h.connected("doctor, and root past the gate", "/run/stopguard-up/libvirt-sock")
	h.do("a port of libvirtd", "systemctl", "enable", "libvirtd-tcp.socket")
	h.doctor("doctor, and a port of libvirtd")
	h.do("no port of libvirtd", "systemctl", "disable", "libvirtd-tcp.socket")
	h.do("the units", "systemd-analyze", "verify", "stopguard-gate.socket", "stopguard-gate.service", "libvirtd.socket")

	h.reloads()
	gate := h.show("stopguard-gate.service", "MainPID")
	h.do("restart of libvirtd", "systemctl", "restart", "libvirtd.service")
	h.do("virsh after the restart", "virsh", "domstate", "g1")
	h.see("the gate lived on", 0, "%v", gate == h.show("stopguard-gate.service", "MainPID"))
	h.do("stop of libvirtd", "systemctl", "stop", "libvirtd.service")
	h.do("virsh starts libvirtd", "virsh", "domstate", "g1")
	h.do("kill the gate", "systemctl", "kill", "--signal=KILL", "stopguard-gate.service")
	h.do("virsh after the kill", "virsh", "domstate", "g1")
	h.see("another gate", 0, "%v", gate != h.show("stopguard-gate.service", "MainPID"))
	h.down()
	h.do("virsh with it again", "virsh", "domstate", "g1")
	h.wrongOption()

	h.tool("install again", "install", "--hook", shared+"/stopguard-hook", "--gate", shared+"/stopguard-gate", "--restart")
	h.tool("uninstall without a yes", "uninstall")
	k = knockAt(public)
	h.tool("uninstall", "uninstall", "--restart")
	h.see("time without a socket, back", 0, "%v", k.end())
	h.see("after uninstall", 0, "%s; %s", h.show("libvirtd.socket", "Listen"), h.same(guest))
	h.do("virsh without the gate", "virsh", "domstate", "g1")
	h.do("read-only without the gate", "virsh", "-r", "domstate", "g1")
	h.left(before)

	// For the shutdown, and the next boot, as the document shows.
	h.do("programs that were built elsewhere", "sh", "-c", "cd "+shared+" && cp stopguard /usr/sbin && cp stopguard-hook stopguard-gate /tmp")
	w := &walker{h: h, folder: "/"}
	w.follow(place{page: "docs/gate.md", section: "Without the packages", without: "go build"})
	_ = os.Remove(records)
}

// left records how the host's files differ from those before.
func (h *host) left(before string) {
	after := h.tree()
	if after == before {
		h.see("what uninstall left", 0, "")
		return
	}
	_ = os.WriteFile("/tmp/before", []byte(before), 0o600)
	_ = os.WriteFile("/tmp/after", []byte(after), 0o600)
	_, diff := h.command("diff", "/tmp/before", "/tmp/after")
	h.see("what uninstall left", 1, "%s", diff)
}

// held has a user hold the guest in a folder that is closed to all others, as docs/holds.md says.
func (h *host) held() {
	const folder, program = "/run/stopguard/holds/nobody", "/tmp/stopguard"
	content, err := os.ReadFile(shared + "/stopguard")
	nobody := &syscall.Credential{Uid: 65534, Gid: 65534}
	err = errors.Join(err, os.WriteFile(program, content, 0o755), os.MkdirAll(folder, 0o755), os.Chmod(folder, 0o700), os.Chown(folder, 65534, 65534))
	h.do("a stop beside an empty folder of a user's", "virsh", "destroy", "g1")
	backup := exec.Command(program, "hold", "5f3b6c55-0a3e-4c5e-8d8a-6f4d1c0b7e01", "--reason", "nightly backup", "--", "sleep", "600")
	backup.SysProcAttr = &syscall.SysProcAttr{Credential: nobody}
	backup.Dir = "/"
	if err = errors.Join(err, backup.Start()); err != nil {
		h.see("a user holds the guest", 1, "%v", err)
		return
	}
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if files, _ := os.ReadDir(folder); len(files) > 0 && !strings.HasPrefix(files[0].Name(), ".") {
			break
		}
	}
	h.do("a stop of a guest that a user holds", "virsh", "destroy", "g1")
	_ = backup.Process.Kill()
	_ = backup.Wait()
	h.see("a user holds the guest", 0, "%v", os.RemoveAll("/run/stopguard/holds"))
}

// reloads records the observations of clients while the gate is reloaded.
func (h *host) reloads() {
	h.file("/tmp/reload.py", reloadProgram)
	exit, out := h.commandWithin(3*time.Minute, nil, "/usr/bin/python3", "/tmp/reload.py")
	var results map[string]string
	if line := out[max(0, strings.LastIndex(out, "{")):]; json.Unmarshal([]byte(line), &results) != nil {
		h.see("reload", exit, "%s", out)
	}
	for name, result := range results {
		h.see("reload: "+name, 0, "%s", result)
	}
	fmt.Println(out)
}

// wrongOption records doctor's findings about a gate with wrong options: it runs on until it is
// restarted.
func (h *host) wrongOption() {
	h.file("/etc/stopguard/gate.conf", "refuse-unknwn=true\n")
	h.do("reload with a wrong option", "systemctl", "reload", "stopguard-gate.service")
	h.see("the gate goes on", 0, "%s", h.show("stopguard-gate.service", "ActiveState"))
	h.doctor("doctor, and a wrong option")
	h.do("start with a wrong option", "systemctl", "restart", "stopguard-gate.service")
	h.doctor("doctor, and a gate that does not start")
	_ = os.Remove("/etc/stopguard/gate.conf")
	h.do("start without it", "systemctl", "restart", "stopguard-gate.service")
	h.do("virsh without the wrong option", "virsh", "domstate", "g1")
}

// down has clients come while libvirtd, the gate or both are down.
func (h *host) down() {
	come := func(what string) {
		for _, way := range waysToLibvirtd {
			h.do(what+", by "+way.name, "virsh", "-c", way.uri, "domstate", "g1")
		}
	}
	h.file(shared+"/ssh", fakeSSH)
	_ = os.Chmod(shared+"/ssh", 0o755)
	h.do("stop of libvirtd's socket", "systemctl", "stop", "libvirtd.socket", "libvirtd.service")
	come("libvirtd down")
	h.do("stop of the gate", "systemctl", "stop", "stopguard-gate.socket")
	come("both down")
	h.do("start of libvirtd's socket", "systemctl", "start", "libvirtd.socket", "libvirtd-ro.socket", "libvirtd-admin.socket")
	come("the gate down")
	h.do("start of the gate", "systemctl", "start", "stopguard-gate.socket")
}

// morning looks at a host that was switched on with the gate in place.
func morning(h *host) {
	h.see("the shutdown, at the gate", 0, "%s", h.read(records))
	h.see("the guest's log", 0, "%s", h.read("/var/log/libvirt/qemu/g1.log"))
	h.see("after the boot", 0, "%s; %s; %s", h.show("libvirtd.socket", "Listen"), h.show("stopguard-gate.socket", "Listen"),
		h.show("stopguard-gate.service", "ActiveState"))
	h.do("virsh after the boot", "virsh", "domstate", "g1")
	conn, err := net.Dial("unix", "/run/stopguard-up/libvirt-sock")
	if err == nil {
		conn.Close()
	}
	h.see("root past the gate", 0, "%v", err)
	h.doctor("doctor after the boot")
}

func TestTheGateComesAndGoes(t *testing.T) {
	if os.Getenv(toolVariable) == "" || os.Getenv(hookVariable) == "" || os.Getenv(gateVariable) == "" {
		t.Fatalf("%s, %s and %s name no programs; run .ci/e2e", toolVariable, hookVariable, gateVariable)
	}
	m := newMachine(t)
	m.copy("../../../docs/gate.md", "documents/docs/gate.md")
	const moved, public = "/run/stopguard-up/libvirt-sock (Stream)", public + " (Stream)"
	m.compare(m.run("operator"), map[string]expected{
		"libvirt-guests is up":                   {0, "active"},
		"define":                                 {0, "Domain 'g1' defined"},
		"start":                                  {0, "Domain 'g1' started"},
		"install without a yes":                  {0, "not in front of libvirtd yet"},
		"nothing has moved":                      {0, "^" + public + "$"},
		"install of a gate that ends":            {1, "libvirtd has its socket again"},
		"libvirtd has its socket":                {0, "^" + public + " the same guest$"},
		"virsh without a gate":                   {0, "running"},
		"no drop-in is left":                     {0, "true"},
		"install":                                {0, "answers    libvirtd, through the gate"},
		"time without a socket":                  {0, short},
		"after install":                          {0, "^" + moved + "; " + public + "; active; the same guest$"},
		"mode of /run/stopguard-up":              {0, "^drwx------$"},
		"mode of /run/stopguard-up/libvirt-sock": {0, "^Srw-------$"},
		"mode of /run/libvirt/libvirt-sock":      {0, "^Srw-rw-rw-$"},
		"virsh through the gate":                 {0, "running"},
		"read-only":                              {0, "running"},
		"virt-admin":                             {0, "libvirtd"},
		"a veto":                                 {1, "stopguard: veto: g1: it is kept (rule site)"},
		"its record":                             {0, "true"},
		"a ticket":                               {0, ""},
		"with the ticket":                        {0, "suspended"},
		"and on":                                 {0, "resumed"},
		"what the ticket is not for":             {1, "stopguard: veto: g1: it is kept (rule site)"},
		"with the gate off":                      {0, "suspended"},
		"and on again":                           {0, "resumed"},
		"a stop beside an empty folder of a user's":  {1, "stopguard: veto: g1: it is kept (rule site)"},
		"a stop of a guest that a user holds":        {1, ": nightly backup (rule hold) and 1 more"},
		"a user holds the guest":                     {0, "nil"},
		"past the gate, as nobody":                   {1, "Permission denied"},
		"through the gate, as nobody":                {1, "PolicyKit1"},
		"doctor":                                     {0, "^looked at:$"},
		"a hook that came after libvirtd":            {0, "warning  hook-noticed"},
		"a hook, and a reload at once":               {0, "ok       hook-noticed"},
		"doctor, and root past the gate":             {0, "^looked at: gate-peers: failure$"},
		"a port of libvirtd":                         {0, ""},
		"doctor, and a port of libvirtd":             {0, "^looked at: gate-network: failure$"},
		"no port of libvirtd":                        {0, ""},
		"the units":                                  {0, "^$"},
		"restart of libvirtd":                        {0, ""},
		"reload: sixty_four_clients_notice_nothing":  {0, "^ok$"},
		"reload: a_download_in_flight_arrives_whole": {0, "^ok$"},
		"reload: a_domain_that_dies_with_its_connection_lives_and_its_events_come": {0, "^ok$"},
		"reload: a_program_that_cannot_take_over_does_not":                         {0, "^ok$"},
		"reload: options_are_read_again":                                           {0, "^ok$"},
		"reload: half_a_call_is_followed_by_its_other_half":                        {0, "^ok$"},
		"reload: who_does_not_read_is_waited_for_and_named":                        {0, "^ok$"},
		"reload: a_crash_ends_connections_and_nothing_else":                        {0, "^ok$"},
		"reload: it_is_one_process":                                                {0, "^ok$"},
		"virsh after the restart":                                                  {0, "running"},
		"the gate lived on":                                                        {0, "true"},
		"stop of libvirtd":                                                         {0, ""},
		"virsh starts libvirtd":                                                    {0, "running"},
		"kill the gate":                                                            {0, ""},
		"virsh after the kill":                                                     {0, "running"},
		"another gate":                                                             {0, "true"},
		"stop of the gate":                                                         {0, ""},
		"stop of libvirtd's socket":                                                {0, ""},
		"start of libvirtd's socket":                                               {0, ""},
		"libvirtd down, by libvirtd's socket":                                      {1, "; look at systemctl status libvirtd"},
		"libvirtd down, by ssh":                                                    {1, "; look at systemctl status libvirtd"},
		"both down, by libvirtd's socket":                                          {1, "libvirt/libvirt-sock': Connection refused"},
		"both down, by ssh":                                                        {1, "libvirt/libvirt-sock': Connection refused"},
		"the gate down, by libvirtd's socket":                                      {1, "libvirt/libvirt-sock': Connection refused"},
		"the gate down, by ssh":                                                    {1, "libvirt/libvirt-sock': Connection refused"},
		"start of the gate":                                                        {0, ""},
		"virsh with it again":                                                      {0, "running"},
		"reload with a wrong option":                                               {1, "failed"},
		"the gate goes on":                                                         {0, "^active$"},
		"doctor, and a wrong option":                                               {0, "^looked at: gate-starts: failure$"},
		"start with a wrong option":                                                {1, "failed"},
		"doctor, and a gate that does not start":                                   {0, "^looked at: gate-units: failure, gate-starts: failure$"},
		"start without it":                                                         {0, "^$"},
		"virsh without the wrong option":                                           {0, "running"},
		"install again":                                                            {0, "in front of libvirtd already"},
		"uninstall without a yes":                                                  {1, "nothing was removed"},
		"uninstall":                                                                {0, "answers    libvirtd, without the gate"},
		"time without a socket, back":                                              {0, short},
		"after uninstall":                                                          {0, "^" + public + "; the same guest$"},
		"virsh without the gate":                                                   {0, "running"},
		"read-only without the gate":                                               {0, "running"},
		"what uninstall left":                                                      {0, "^$"},
		"programs that were built elsewhere":                                       {0, ""},
	})
	m.compare(m.run("morning"), map[string]expected{
		"the shutdown, at the gate": {0, `"unenforced":"shutting_down"`},
		"the guest's log":           {0, "reason=saved"},
		"after the boot":            {0, "^" + moved + "; " + public + "; active$"},
		"virsh after the boot":      {0, "running"},
		"root past the gate":        {0, "<nil>"},
		"doctor after the boot":     {0, "^looked at:$"},
	})
}

const (
	short = "a duration below that of a daemon's start"

	// mostRefused is far more than systemd takes to make a socket, and far less than libvirtd may
	// take to start.
	mostRefused = 5 * time.Second
)

type expected struct {
	exit int
	out  string // a part of it; between ^ and $, all
}

func (m *machine) compare(seen []observation, want map[string]expected) {
	t := m.t
	t.Helper()
	done := map[string]bool{}
	for _, o := range seen {
		if strings.HasPrefix(o.Step, typed) {
			if o.Exit != 0 {
				t.Errorf("%s: %s", o.Step, o.Out)
			}
			continue
		}
		done[o.Step] = true
		e, ok := want[o.Step]
		out := strings.TrimSpace(o.Out)
		whole, all := strings.CutPrefix(e.out, "^")
		fits := strings.Contains(out, e.out)
		if all {
			fits = out == strings.TrimSuffix(whole, "$")
		}
		if e.out == short {
			d, err := time.ParseDuration(out)
			fits = err == nil && d < mostRefused
			t.Logf("%s: %s", o.Step, out)
		}
		if !ok || !fits || e.exit != o.Exit {
			t.Errorf("%s: exit %d, %q; want %d, %q", o.Step, o.Exit, out, e.exit, e.out)
		}
	}
	for step := range want {
		if !done[step] {
			t.Error("not done:", step)
		}
	}
	if t.Failed() {
		script, _ := os.ReadFile(m.folder + "/script.log")
		t.Log(string(script))
	}
}
