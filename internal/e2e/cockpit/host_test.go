//go:build e2e

// Package e2e tests the page in Cockpit as a person uses it: with Debian's Cockpit and Chromium,
// users who log in with a password, and the real libvirtd and QEMU behind the gate. See .ci/e2e.
//
// The script of a host acts at the page, and waits for what the page shows. The test compares what
// happened to the guest, and what the script read.
package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stopguard/stopguard/internal/e2ehost"
	"github.com/stopguard/stopguard/internal/gate/unit"
)

// The environment variables with the programs that .ci/e2e built, and the folder for screenshots.
const (
	toolVariable  = "STOPGUARD_E2E_TOOL"
	gateVariable  = "STOPGUARD_E2E_GATE"
	agentVariable = "STOPGUARD_E2E_AGENT"
	shotsVariable = "STOPGUARD_E2E_SCREENSHOTS" // a folder; a temporary one if it is not set
	pageVariable  = "STOPGUARD_E2E_PAGE"        // the page's folder; set by the test for its host
)

const (
	cockpitURL = "http://127.0.0.1:9090"
	password   = "correct-horse-9"
	settings   = "/etc/stopguard/policy/data.yaml"
	tool       = "/usr/sbin/stopguard"

	// approvals asks for one person beside the requester.
	approvals = "site:\n  tickets: {approvers: 1, who: [\"group:ops\"]}\n"
)

type host struct {
	*e2ehost.Host
	cockpit *exec.Cmd
}

var scripts = map[string]func(*host) any{
	"story":   (*host).story,
	"looks":   (*host).looks,
	"trouble": (*host).trouble,
}

func TestMain(m *testing.M) {
	e2ehost.Main(m, func(script string) {
		h := &host{Host: &e2ehost.Host{}}
		h.Report(scripts[script](h))
	})
}

// on plays a script, and decodes its report into seen.
func on(t *testing.T, script string, seen any) {
	t.Helper()
	e2ehost.Need(t, toolVariable, gateVariable, agentVariable)
	page, err := filepath.Abs("../../../packaging/stopguard-cockpit/page")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(pageVariable, page)
	if os.Getenv(shotsVariable) == "" {
		t.Setenv(shotsVariable, t.TempDir())
	}
	if err := os.MkdirAll(os.Getenv(shotsVariable), 0o755); err != nil {
		t.Fatal(err)
	}
	e2ehost.On(t, script, seen)
}

// begin starts Cockpit with the page, for anna, who is an administrator, and ben, who is not. Both
// may request and approve tickets.
func (h *host) begin() {
	h.Config = fmt.Sprintf("unix_sock_dir = %q\n", unit.UpstreamFolder)
	h.Prepare()
	h.Doing = "Cockpit is started"
	h.Run("ip", "link", "set", "lo", "up")
	h.File("/run/tmp/.keep", "", 0o644)
	if err := os.Setenv("TMPDIR", "/run/tmp"); err != nil {
		h.Fatalf("%v", err)
	}
	h.Run("groupadd", "ops")
	for user, groups := range map[string]string{"anna": "ops,sudo", "ben": "ops"} {
		h.Run("useradd", "-m", "-d", "/var/lib/home-"+user, "-s", "/bin/bash", "-G", groups, user)
		if got := h.Command(user+":"+password+"\n", h.Environment(), "chpasswd"); got.Exit != 0 {
			h.Fatalf("chpasswd: %+v", got)
		}
	}
	// A bus for each person, as systemd gives it to who logs in.
	h.File("/etc/security/pam_env.conf", "DBUS_SESSION_BUS_ADDRESS DEFAULT=unix:path=/var/lib/home-@{PAM_USER}/bus\n", 0o644)
	for _, user := range []string{"anna", "ben"} {
		h.Run("setpriv", "--reuid="+user, "--regid="+user, "--init-groups", "dbus-daemon", "--session", "--fork", "--address=unix:path=/var/lib/home-"+user+"/bus")
	}
	h.File(tool, h.Read(os.Getenv(toolVariable)), 0o755)
	h.installPage()
	// A newer Cockpit asks a socket of systemd's for it.
	h.File("/etc/cockpit/cockpit.conf", "[Basic]\nCommand = /usr/lib/cockpit/cockpit-session\n", 0o644)
	h.cockpit = h.background("/usr/lib/cockpit/cockpit-ws", "/run/cockpit-ws.log", "--no-tls", "--port=9090", "--address=127.0.0.1")
	h.Until("Cockpit listens", func() bool {
		c, err := net.Dial("tcp", "127.0.0.1:9090")
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	h.startDriver()
}

// installPage puts the page where its package does, on a layer over the machine's files.
func (h *host) installPage() {
	const pages = "/usr/share/cockpit"
	const layer = "/run/e2e-layers/cockpit"
	err := errors.Join(os.MkdirAll(layer+"/upper", 0o755), os.MkdirAll(layer+"/work", 0o755))
	if err == nil {
		err = syscall.Mount("overlay", pages, "overlay", 0, fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", pages, layer, layer))
	}
	if err != nil {
		h.Fatalf("a layer on %s: %v", pages, err)
	}
	files, _ := filepath.Glob(os.Getenv(pageVariable) + "/*")
	if len(files) == 0 {
		h.Fatalf("%s has no page", os.Getenv(pageVariable))
	}
	for _, file := range files {
		h.File(pages+"/stopguard/"+filepath.Base(file), h.Read(file), 0o644)
	}
}

// startGuard starts gate, libvirtd and agent. To the tool the gate is in front of libvirtd only
// when install's drop-in is there.
func (h *host) startGuard() {
	h.Doing = "the guard is started"
	for _, dir := range []string{unit.UpstreamFolder, "/run/libvirt", "/run/lock"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			h.Fatalf("%v", err)
		}
	}
	h.File("/usr/sbin/stopguard-gate", h.Read(os.Getenv(gateVariable)), 0o755)
	h.File("/usr/sbin/stopguard-agent", h.Read(os.Getenv(agentVariable)), 0o755)
	public, past := e2ehost.Layout.Public, e2ehost.Layout.Upstream
	h.background("/usr/sbin/stopguard-gate", "/run/gate.log", "-listen", public, "-listen-ro", public+"-ro", "-upstream", past, "-upstream-ro", past+"-ro")
	h.Until("the gate listens", func() bool { _, err := os.Stat(public + "-ro"); return err == nil })
	h.StartDaemon()
	h.File("/etc/stopguard/agent.yaml", "labels: {site: test}\n", 0o600)
	h.background("/usr/sbin/stopguard-agent", "/run/agent.log")
	h.Until("the agent has tickets approved", func() bool { _, err := os.Stat("/run/stopguard/tickets.sock"); return err == nil })
}

// enter logs a person in at Cockpit's own page, and goes to ours. Administrative access is asked
// for as the button in Cockpit's head does it.
func (h *host) enter(person string, admin bool, width, height int) *browser {
	h.Doing = person + " logs in"
	b := h.newBrowser(person, width, height)
	for b.login(admin) {
	}
	b.inside()
	return b
}

// login fills Cockpit's login in. It reports whether the machine was too busy for Cockpit, which
// waits for half a minute.
func (b *browser) login(admin bool) (isLate bool) {
	b.open(cockpitURL + "/stopguard")
	b.until("there is a login", "document.querySelector('#login-user-input')?.offsetParent")
	if admin {
		b.eval(nil, "localStorage.setItem('superuser:' + arguments[0], 'any')", b.person)
	}
	b.write("#login-user-input", b.person)
	b.write("#login-password-input", password)
	b.click("#login-button")
	b.until("Cockpit has answered", "document.querySelector('iframe') || document.body.innerText.includes('Authentication failed')")
	b.eval(&isLate, "return document.body.innerText.includes('Timeout')")
	return isLate
}

// inside enters the frame of the page, and waits until it has read the host.
func (b *browser) inside() {
	frame := b.element("iframe[name='cockpit1:localhost/stopguard']")
	b.must("/frame", map[string]any{"id": map[string]string{elementKey: filepath.Base(frame)}}, nil)
	b.until("the page has read the host", "document.body && document.body.dataset.read > 1")
}

// reload loads the page again, in Cockpit's shell.
func (b *browser) reload() {
	b.must("/refresh", nil, nil)
	b.inside()
}
