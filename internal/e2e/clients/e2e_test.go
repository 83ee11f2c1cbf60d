//go:build e2e

// Package e2e runs other people's clients of libvirt through the gate, with the real libvirtd and
// QEMU of the machine: see .ci/e2e. docs/clients.md says what each client does when the gate
// refuses.
//
// The clients are Debian's packages, which .ci/clients unpacks. A host has them in its /usr.
package e2e

import (
	"os"
	"strings"
	"testing"

	"github.com/stopguard/stopguard/internal/e2ehost"
)

// clientsVariable names the folder that .ci/clients prints.
const clientsVariable = "STOPGUARD_E2E_CLIENTS"

// python is Debian's own Python: another one has no modules of Debian's.
const python = "/usr/bin/python3"

const listFile = "/etc/libvirt/protected-domains"

// A step is the observation of one action.
type step struct {
	Name    string
	Got     e2ehost.Answer
	State   string   // of the domain, without its reason
	HasDisk bool     // the domain's disk is there
	Records []string // the new lines of the record
}

type host struct {
	e2ehost.Gated
	seen []step
}

var scripts = map[string]func(*host){
	"tools": (*host).tools,
	"ways":  (*host).ways,
}

func TestMain(m *testing.M) {
	e2ehost.Main(m, func(script string) {
		h := &host{}
		scripts[script](h)
		h.Report(h.seen)
	})
}

func on(t *testing.T, script string) []step {
	t.Helper()
	e2ehost.Need(t, e2ehost.GateVariable)
	if _, err := os.Stat(os.Getenv(clientsVariable) + "/built"); err != nil {
		t.Fatalf("%s names no folder of clients; run .ci/e2e", clientsVariable)
	}
	var seen []step
	e2ehost.On(t, script, &seen)
	return seen
}

// addClients adds the clients' files to those of the host.
func (h *host) addClients() {
	h.Doing = "the clients are added"
	clients := os.Getenv(clientsVariable)
	h.Run("sh", "-c", `set -e
mkdir -p /run/usr/upper /run/usr/work
mount -t overlay overlay -o "lowerdir=`+clients+`/usr:/usr,upperdir=/run/usr/upper,workdir=/run/usr/work" /usr
cp -rn `+clients+`/etc/. /etc/
glib-compile-schemas /usr/share/glib-2.0/schemas 2>/dev/null
id libvirtdbus >/dev/null 2>&1 || useradd -r libvirtdbus
mkdir -p /run/home
ip link set lo up`)
}

// environment returns the environment of a client.
func (h *host) environment() []string {
	return append(h.Environment(), "LC_ALL=C.UTF-8", "HOME=/run/home", "XDG_RUNTIME_DIR=/run/home", "GDK_BACKEND=broadway", "BROADWAY_DISPLAY=:5")
}

// sh runs commands of a client.
func (h *host) sh(command string) e2ehost.Answer {
	return h.CommandWithin(3*e2ehost.Patience, "", h.environment(), "bash", "-c", command)
}

// observe appends the observation of an action on a guest that has this disk.
func (h *host) observe(name string, got e2ehost.Answer, g e2ehost.Guest, disk string) {
	state, _, _ := strings.Cut(h.State(g), " (")
	_, err := os.Stat(disk)
	h.seen = append(h.seen, step{Name: name, Got: got, State: state, HasDisk: err == nil, Records: h.Records()})
}

// expected is what a step has to come to.
type expected struct {
	exit    int
	says    []string // each is in the output
	state   string
	hasDisk bool
	records []string // nil means any
}
