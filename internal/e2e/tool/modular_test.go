//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stopguard/stopguard/internal/e2ehost"
)

const modularVariable = "STOPGUARD_E2E_MODULAR" // the folder of virtqemud, virtproxyd and their units

// modularUnits are the sockets that a host with modular daemons enables.
var modularUnits = []string{"virtqemud.socket", "virtqemud-ro.socket", "virtqemud-admin.socket", "virtproxyd.socket", "virtproxyd-ro.socket", "virtproxyd-admin.socket", "virtproxyd-tcp.socket"}

// newModularMachine returns a machine on which virtqemud and virtproxyd are in libvirtd's place.
// libvirtd is installed and not used.
func newModularMachine(t *testing.T) *machine {
	t.Helper()
	m := newMachine(t)
	daemons := os.Getenv(modularVariable)
	for _, name := range []string{"libvirtd.socket", "libvirtd-ro.socket", "libvirtd-admin.socket"} {
		must(t, os.Remove(m.folder+"/upper/etc/systemd/system/sockets.target.wants/"+name))
	}
	must(t, os.Remove(m.folder+"/upper/etc/systemd/system/multi-user.target.wants/libvirtd.service"))
	for _, dir := range []string{"/upper/usr/sbin", "/upper/usr/lib/systemd/system", "/upper/etc/sysconfig"} {
		must(t, os.MkdirAll(m.folder+dir, 0o755))
	}
	files, err := os.ReadDir(daemons)
	must(t, err)
	for _, f := range files {
		content, err := os.ReadFile(daemons + "/" + f.Name())
		must(t, err)
		switch {
		case f.Name() == "virtqemud" || f.Name() == "virtproxyd":
			must(t, os.WriteFile(m.folder+"/upper/usr/sbin/"+f.Name(), content, 0o755))
		case strings.Contains(f.Name(), "."):
			must(t, os.WriteFile(m.folder+"/upper/usr/lib/systemd/system/"+f.Name(), content, 0o644))
		}
	}
	for _, name := range modularUnits {
		m.enable("sockets.target", name)
	}
	// Without a URI, Debian's libvirt takes libvirtd's socket, and virtproxyd may have ended by
	// then.
	must(t, os.WriteFile(m.folder+"/upper/etc/default/libvirt-guests", []byte("URIS=qemu:///system\nON_SHUTDOWN=suspend\nON_BOOT=start\n"), 0o644))
	must(t, os.WriteFile(m.folder+"/upper/etc/libvirt/virtproxyd.conf", []byte("auth_tcp = \"none\"\n"), 0o600))
	must(t, os.WriteFile(m.folder+"/upper/etc/sysconfig/virtqemud", []byte("VIRTQEMUD_ARGS=\"--timeout 3\"\n"), 0o644))
	return m
}

// waysIn are the URIs by which clients come to virtqemud.
var waysIn = []struct{ name, uri string }{
	{"virtqemud's socket", "qemu:///system"},
	{"libvirtd's socket", "qemu:///system?mode=legacy"},
	{"TCP", "qemu+tcp://127.0.0.1/system"},
	{"ssh", "qemu+ssh://host/system?command=" + shared + "/ssh"},
}

const (
	// aroundModular is a name that has a daemon connect to the moved socket.
	aroundModular = "qemu%2Bunix%3A%2F%2F%2Fsystem%3Fsocket%3D%2Frun%2Fstopguard-up%2Fvirtqemud-sock"

	// fakeSSH runs the command that ssh would run on the host: its last argument.
	fakeSSH = "#!/bin/sh\nfor last; do :; done\nexec sh -c \"$last\"\n"
)

// modularDay is the life of a host with modular daemons, until it is switched off with the gate.
func modularDay(h *host) {
	h.file("/tmp/g1.xml", guestXML)
	h.file(shared+"/ssh", fakeSSH)
	_ = os.Chmod(shared+"/ssh", 0o755)
	h.file("/etc/stopguard/policy/site.rego", rule)
	h.do("define", "virsh", "define", "/tmp/g1.xml")
	h.do("start", "virsh", "start", "g1")
	h.do("the daemon", "systemctl", "is-active", "virtqemud.service", "libvirtd.service")
	for _, way := range waysIn {
		h.do("by "+way.name, "virsh", "-c", way.uri, "domstate", "g1")
	}
	guest := h.read("/run/libvirt/qemu/g1.pid")
	before := h.tree()
	install := []string{"install", "--hook", shared + "/stopguard-hook", "--gate", shared + "/stopguard-gate", "--restart"}

	h.do("libvirtd beside it", "systemctl", "start", "libvirtd.socket")
	h.tool("install beside libvirtd", install...)
	h.do("no libvirtd", "systemctl", "stop", "libvirtd.socket", "libvirtd-ro.socket", "libvirtd-admin.socket")
	h.do("virtproxyd again", "systemctl", append([]string{"start"}, modularUnits...)...)
	h.do("no socket of systemd's", "systemctl", "stop", "virtqemud.socket")
	h.file("/run/libvirt/virtqemud-sock", "")
	h.tool("install without a socket of systemd's", install...)
	_ = os.Remove("/run/libvirt/virtqemud-sock")
	h.do("a socket of systemd's", "systemctl", append([]string{"start"}, modularUnits...)...)
	h.tool("install without a yes", install[:len(install)-1]...)
	h.do("virtproxyd runs", "virsh", "-c", waysIn[1].uri, "domstate", "g1")
	h.see("nothing has moved", 0, "%s", h.show("virtqemud.socket", "Listen"))
	false_, _ := os.ReadFile("/bin/false")
	_ = os.WriteFile(shared+"/false", false_, 0o755)
	h.tool("install of a gate that ends", "install", "--hook", shared+"/stopguard-hook", "--gate", shared+"/false", "--restart")
	h.see("virtqemud has its socket", 0, "%s %s", h.show("virtqemud.socket", "Listen"), h.same(guest))
	h.do("libvirtd's socket without a gate", "virsh", "-c", waysIn[1].uri, "domstate", "g1")

	k := knockAt("/run/libvirt/virtqemud-sock")
	h.tool("install", install...)
	h.see("time without a socket", 0, "%v", k.end())
	h.see("after install", 0, "%s; %s; %s; %s", h.show("virtqemud.socket", "Listen"), h.show("stopguard-gate.socket", "Listen"),
		h.show("stopguard-gate.service", "ActiveState"), h.same(guest))
	for _, way := range waysIn {
		h.do("a state by "+way.name, "virsh", "-c", way.uri, "domstate", "g1")
		h.do("a veto by "+way.name, "virsh", "-c", way.uri, "destroy", "g1")
	}
	h.do("read-only", "virsh", "-r", "domstate", "g1")
	h.do("virt-admin", "virt-admin", "-c", "virtqemud:///system", "srv-list")
	h.do("a name that leads past the gate", "virsh", "-c", waysIn[1].uri+"&name="+aroundModular, "destroy", "g1")
	h.do("the same over TCP", "virsh", "-c", waysIn[2].uri+"?name="+aroundModular, "destroy", "g1")
	h.see("nothing has ended", 0, "%s", h.same(guest))
	h.doctor("doctor")
	h.connected("doctor, and root past the gate", "/run/stopguard-up/virtqemud-sock")
	h.do("the units", "systemd-analyze", "verify", "--man=no", "stopguard-gate.socket", "stopguard-gate.service", "virtqemud.socket", "virtproxyd.service")
	h.unhidden()

	h.do("restart of virtqemud", "systemctl", "restart", "virtqemud.service")
	h.do("virsh after the restart", "virsh", "domstate", "g1")
	h.do("stop of the socket", "systemctl", "stop", "virtqemud.socket")
	for _, way := range waysIn {
		h.do("virtqemud down, by "+way.name, "virsh", "-c", way.uri, "domstate", "g1")
	}
	h.do("stop of the gate too", "systemctl", "stop", "stopguard-gate.socket")
	for _, way := range waysIn {
		h.do("both down, by "+way.name, "virsh", "-c", way.uri, "domstate", "g1")
	}
	h.do("start of the socket", "systemctl", "start", "virtqemud.socket", "virtqemud-ro.socket", "virtqemud-admin.socket")
	for _, way := range waysIn {
		h.do("the gate down, by "+way.name, "virsh", "-c", way.uri, "domstate", "g1")
	}
	h.do("start of the gate", "systemctl", "start", "stopguard-gate.socket", "stopguard-gate.service")
	gate := h.show("stopguard-gate.service", "MainPID")
	h.do("virsh with it again", "virsh", "domstate", "g1")
	h.do("virtproxyd with it again", "virsh", "-c", waysIn[1].uri, "domstate", "g1")
	h.see("the same guest", 0, "%s", h.same(guest))

	h.tool("a ticket", "ticket", "grant", "g1", "--reason", "a test")
	h.do("with the ticket", "virsh", "destroy", "g1")
	h.see("virtqemud without guests and clients", 0, "%s", h.idle())
	h.do("virsh starts virtqemud", "virsh", "start", "g1")
	h.see("the gate lived on", 0, "%v", gate == h.show("stopguard-gate.service", "MainPID"))
	guest = h.read("/run/libvirt/qemu/g1.pid")

	// The host changes to libvirtd under the gate, and back.
	h.do("no virtqemud", "systemctl", append([]string{"stop"}, modularUnits...)...)
	h.do("libvirtd in its place", "systemctl", "start", "libvirtd.socket")
	h.doctor("doctor, and another daemon")
	h.tool("install before another daemon", install...)
	h.tool("uninstall before another daemon", "uninstall", "--gate", "--restart")
	h.see("libvirtd is left alone", 0, "%s; %s", h.show("libvirtd.socket", "Listen"), h.show("virtqemud.socket", "ActiveState"))
	h.do("by libvirtd", "virsh", "-c", waysIn[0].uri, "domstate", "g1")
	h.do("no libvirtd again", "systemctl", "stop", "libvirtd.socket", "libvirtd-ro.socket", "libvirtd-admin.socket", "libvirtd.service")
	h.do("virtqemud again", "systemctl", append([]string{"start"}, modularUnits...)...)
	h.tool("install for virtqemud again", install...)
	h.do("a veto again", "virsh", "destroy", "g1")

	// Without the tool, as the document says, and in again.
	w := &walker{h: h, folder: "/"}
	w.follow(place{page: "docs/gate.md", section: "Without the tool, before virtqemud"})
	for _, way := range waysIn {
		h.do("taken away by hand, by "+way.name, "virsh", "-c", way.uri, "domstate", "g1")
	}
	h.see("nothing else is in the way", 0, "%s", h.show("virtqemud.socket", "Listen"))
	h.tool("install after that", install...)
	h.do("a veto after that", "virsh", "destroy", "g1")

	k = knockAt("/run/libvirt/virtqemud-sock")
	h.tool("uninstall", "uninstall", "--restart")
	h.see("time without a socket, back", 0, "%v", k.end())
	h.see("after uninstall", 0, "%s; %s", h.show("virtqemud.socket", "Listen"), h.same(guest))
	for _, way := range waysIn {
		h.do("without the gate, by "+way.name, "virsh", "-c", way.uri, "domstate", "g1")
	}
	h.left(before)

	h.tool("install for good", install...)
	h.do("the shutdown's flag", "systemctl", "enable", "--now", "stopguard-shutdown.service")
	_ = os.Remove(records)
}

// unhidden has doctor look at a virtproxyd that was started without the gate's drop-in.
func (h *host) unhidden() {
	const dropIn = "/etc/systemd/system/virtproxyd.service.d/50-stopguard.conf"
	content := h.read(dropIn) + "\n"
	_ = os.Remove(dropIn)
	h.do("no drop-in", "systemctl", "daemon-reload")
	h.do("virtproxyd without it", "systemctl", "restart", "virtproxyd.service")
	h.file(dropIn, content)
	h.do("the drop-in again", "systemctl", "daemon-reload")
	h.doctor("doctor, and a virtproxyd that sees the moved socket")
	h.do("past the gate by virtproxyd", "virsh", "-c", waysIn[1].uri+"&name="+aroundModular, "uri")
	led := exec.Command("virsh", "-c", waysIn[1].uri+"&name="+aroundModular, "event", "--all", "--loop")
	if err := led.Start(); err != nil {
		h.see("a client that is led past the gate", 1, "%v", err)
		return
	}
	for end := time.Now().Add(e2ehost.Patience); !h.sees("gate-peers", "virtproxyd") && time.Now().Before(end); {
		time.Sleep(e2ehost.Tick)
	}
	h.doctor("doctor, and a client that is led past the gate")
	_, _ = led.Process.Kill(), led.Wait()
	h.do("what doctor says to do", "systemctl", "try-restart", "virtproxyd.service")
	h.doctor("doctor, and a virtproxyd that does not see it")
}

// sees reports whether doctor's finding names something.
func (h *host) sees(id, name string) bool {
	for _, f := range h.findings() {
		if f.ID == id && strings.Contains(f.What, name) {
			return true
		}
	}
	return false
}

// idle waits until virtqemud has ended by itself.
func (h *host) idle() string {
	for end := time.Now().Add(e2ehost.Patience); time.Now().Before(end); time.Sleep(e2ehost.Tick) {
		if state := h.show("virtqemud.service", "ActiveState"); state == "inactive" {
			return state
		}
	}
	return "it runs on"
}

// modularMorning looks at a host with modular daemons that was switched on with the gate in place.
func modularMorning(h *host) {
	h.see("the shutdown, at the gate", 0, "%s", h.read(records))
	h.do("the guest", "virsh", "-c", waysIn[0].uri, "domstate", "--reason", "g1") // its log says nothing: virtlogd ends before the guests
	h.see("after the boot", 0, "%s; %s; %s", h.show("virtqemud.socket", "Listen"), h.show("stopguard-gate.socket", "Listen"),
		h.show("stopguard-gate.service", "ActiveState"))
	for _, way := range waysIn {
		h.do("a veto by "+way.name, "virsh", "-c", way.uri, "destroy", "g1")
	}
	h.doctor("doctor after the boot")
}

func TestTheGateComesAndGoesBeforeVirtqemud(t *testing.T) {
	if os.Getenv(toolVariable) == "" || os.Getenv(hookVariable) == "" || os.Getenv(gateVariable) == "" || os.Getenv(modularVariable) == "" {
		t.Fatalf("%s, %s, %s or %s is not set; run .ci/e2e", toolVariable, hookVariable, gateVariable, modularVariable)
	}
	m := newModularMachine(t)
	m.copy("../../../docs/gate.md", "documents/docs/gate.md")
	const moved, public = "/run/stopguard-up/virtqemud-sock (Stream)", "/run/libvirt/virtqemud-sock (Stream)"
	const veto, hidden = "stopguard: veto: g1: it is kept (rule site)", "Failed to connect socket to '/run/stopguard-up/virtqemud-sock'"
	want := map[string]expected{
		"define":             {0, "Domain 'g1' defined"},
		"start":              {0, "Domain 'g1' started"},
		"the daemon":         {0, "^active\ninactive$"},
		"libvirtd beside it": {0, ""},
		"install beside libvirtd": {1, "libvirtd.socket and virtqemud.socket are both active, and clients prefer virtqemud; " +
			"stop and disable the one that is not used (systemctl disable --now libvirtd.service libvirtd.socket) and try again"},
		"no libvirtd":            {0, ""},
		"virtproxyd again":       {0, ""},
		"no socket of systemd's": {0, ""},
		"install without a socket of systemd's": {1, "/run/libvirt/virtqemud-sock is there and virtqemud.socket is not active, so that virtqemud makes its socket itself; " +
			"have systemd make it (systemctl enable --now virtqemud.socket virtqemud-ro.socket virtqemud-admin.socket) and try again"},
		"a socket of systemd's":            {0, ""},
		"install without a yes":            {0, "not in front of virtqemud yet"},
		"virtproxyd runs":                  {0, "running"},
		"nothing has moved":                {0, "^" + public + "$"},
		"install of a gate that ends":      {1, "virtqemud has its socket again"},
		"virtqemud has its socket":         {0, "^" + public + " the same guest$"},
		"libvirtd's socket without a gate": {0, "running"},
		"install":                          {0, "answers    virtqemud, through the gate"},
		"time without a socket":            {0, short},
		"after install":                    {0, "^" + moved + "; " + public + "; active; the same guest$"},
		"read-only":                        {0, "running"},
		"virt-admin":                       {0, "virtqemud"},
		"a name that leads past the gate":  {1, hidden},
		"the same over TCP":                {1, hidden},
		"nothing has ended":                {0, "^the same guest$"},
		"doctor":                           {0, "^looked at:$"},
		"doctor, and root past the gate":   {0, "^looked at: gate-peers: failure$"},
		"the units":                        {0, "^$"},
		"no drop-in":                       {0, ""},
		"virtproxyd without it":            {0, ""},
		"the drop-in again":                {0, ""},
		"doctor, and a virtproxyd that sees the moved socket": {0, "^looked at: gate-proxy: failure$"},
		"doctor, and a client that is led past the gate":      {0, "^looked at: gate-proxy: failure, gate-peers: failure$"},
		"past the gate by virtproxyd":                         {0, "qemu"},
		"what doctor says to do":                              {0, ""},
		"doctor, and a virtproxyd that does not see it":       {0, "^looked at:$"},
		"restart of virtqemud":                                {0, ""},
		"virsh after the restart":                             {0, "running"},
		"stop of the socket":                                  {0, ""},
		"stop of the gate too":                                {0, ""},
		"start of the gate":                                   {0, ""},
		"start of the socket":                                 {0, ""},
		"virsh with it again":                                 {0, "running"},
		"virtproxyd with it again":                            {0, "running"},
		"the same guest":                                      {0, "^the same guest$"},
		"a ticket":                                            {0, ""},
		"with the ticket":                                     {0, "destroyed"},
		"virtqemud without guests and clients":                {0, "^inactive$"},
		"virsh starts virtqemud":                              {0, "started"},
		"the gate lived on":                                   {0, "true"},
		"no virtqemud":                                        {0, ""},
		"libvirtd in its place":                               {0, ""},
		"doctor, and another daemon":                          {0, "gate-other-daemon: failure"},
		"install before another daemon":                       {1, "nothing was done: the gate stands before virtqemud, and this host uses libvirtd now; stopguard uninstall --gate --restart, and install it again"},
		"uninstall before another daemon":                     {0, "virtqemud, which was not active; this host uses libvirtd now"},
		"libvirtd is left alone":                              {0, "^/run/libvirt/libvirt-sock (Stream); inactive$"},
		"by libvirtd":                                         {0, "running"},
		"no libvirtd again":                                   {0, ""},
		"virtqemud again":                                     {0, ""},
		"install for virtqemud again":                         {0, "answers    virtqemud, through the gate"},
		"a veto again":                                        {1, veto},
		"nothing else is in the way":                          {0, "^" + public + "$"},
		"install after that":                                  {0, "answers    virtqemud, through the gate"},
		"a veto after that":                                   {1, veto},
		"uninstall":                                           {0, "answers    virtqemud, without the gate"},
		"time without a socket, back":                         {0, short},
		"after uninstall":                                     {0, "^" + public + "; the same guest$"},
		"what uninstall left":                                 {0, "^$"},
		"install for good":                                    {0, "through the gate"},
		"the shutdown's flag":                                 {0, ""},
	}
	after := map[string]expected{
		"the shutdown, at the gate": {0, `"unenforced":"shutting_down"`},
		"the guest":                 {0, "^running (restored)$"},
		"after the boot":            {0, "^" + moved + "; " + public + "; active$"},
		"doctor after the boot":     {0, "^looked at:$"},
	}
	for _, way := range waysIn {
		want["by "+way.name] = expected{0, "running"}
		want["a state by "+way.name] = expected{0, "running"}
		want["a veto by "+way.name] = expected{1, veto}
		want["virtqemud down, by "+way.name] = expected{1, "; look at systemctl status virtqemud"}
		want["the gate down, by "+way.name] = expected{1, "libvirt/virtqemud-sock': Connection refused"}
		want["both down, by "+way.name] = expected{1, "libvirt/virtqemud-sock': Connection refused"}
		want["without the gate, by "+way.name] = expected{0, "running"}
		want["taken away by hand, by "+way.name] = expected{0, "running"}
		after["a veto by "+way.name] = expected{1, veto}
	}
	m.compare(m.run("modular day"), want)
	m.compare(m.run("modular morning"), after)
}
