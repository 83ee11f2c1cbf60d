//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stopguard/stopguard/internal/docsteps"
)

// The documents' own commands are run on a host that has systemd, libvirtd, QEMU and the built
// packages, and no Go.

const packagesVariable = "STOPGUARD_E2E_PACKAGES" // the folder with the .debs of packaging/build

func init() {
	scripts["newcomer"] = newcomer
	scripts["reader"] = reader
}

// A place is a section of a document, or a whole document.
type place struct {
	page, section string

	before  string            // a command that makes the host as the reader has it there
	replace map[string]string // what the reader puts in place of a word
	without string            // stands in commands that are not run, for they need Go
}

// newcomersWay leads from the packages to a rule of one's own.
var newcomersWay = []place{
	{page: "README.md", section: "Install it"},
	{page: "README.md", section: "stopguard"}, // the veto that it begins with
	{page: "docs/first-steps.md"},
}

// readersPlaces are other commands of the documents, in an order in which a host can follow them.
var readersPlaces = []place{
	{page: "README.md", section: "Install it"},
	{page: "docs/gate.md", section: "The gate"},
	{page: "packaging/README.md", section: "Switch the hook on and off"},
	{page: "docs/gate.md", section: "What it protects by default", before: "chmod +x /etc/libvirt/hooks/qemu.d/50-stopguard"},
	{page: "docs/coverage.md", section: "What is covered"},
	{page: "docs/coverage.md", section: "What the default protects", before: "stopguard ticket grant pg-primary-01 --operation modify --reason 'another mark'"},
	{page: "docs/gate.md", section: "Shutdown of the host"},
	{page: "docs/gate.md", section: "Maintenance"},
	{page: "docs/gate.md", section: "A new version of the gate"},
	{page: "docs/gate.md", section: "Options"},
	{page: "docs/gate.md", section: "Metrics", before: "mkdir -p /var/lib/prometheus/node-exporter"},
	{page: "packaging/monitoring/README.md", section: "Alerts and a dashboard"},
	{page: "docs/gate.md", section: "Guests that hang"},
	{page: "docs/tickets.md", section: "Tickets", before: "rm /etc/stopguard/gate-off",
		replace: map[string]string{"revoke ID": "revoke $(stopguard ticket list -o json | sed -n 's/.*\"id\": *\"\\([0-9a-f]*\\)\".*/\\1/p' | tail -n 1)"}},
	{page: "docs/clients.md", section: "What to set"},
	{page: "docs/agent.md", section: "Install it", before: "echo '{}' >agent.yaml"},
	{page: "docs/agent.md", section: "Change its configuration"},
	{page: "packaging/README.md", section: "The agent"},
	{page: "docs/control-plane.md", before: "systemctl disable --now stopguard-agent && rm /etc/stopguard/agent.yaml && " +
		"systemctl start nginx && echo 127.0.0.1 policies.example.com >>/etc/hosts"},
	{page: "docs/notify.md", section: "Told when protection goes", before: "systemctl reload libvirtd && cp -r " + shared + "/documents/examples ."},
	{page: "docs/operations.md", section: "Hear of it", replace: map[string]string{"NAME": "pg-primary-01"}},
	{page: "docs/cockpit.md", section: "The page in Cockpit"},
	{page: "docs/operations.md", section: "The first month"},
	{page: "docs/gate.md", section: "When the gate is down"},
	{page: "docs/gate.md", section: "Without the tool"},
}

var uuidLine = regexp.MustCompile(`.*<uuid>.*\n`)

// A walker runs steps one after the other in one folder, as root in a shell.
type walker struct {
	h      *host
	folder string
}

func newWalker(h *host) *walker {
	// The machine's peculiarities: a Go that is in the way, and a policy against starting services.
	// And what takes dpkg most of its time: the index of manual pages, and waiting for disks.
	for {
		path, err := exec.LookPath("go")
		if err != nil || os.Remove(path) != nil {
			break
		}
	}
	_ = os.Remove("/usr/sbin/policy-rc.d")
	_ = os.Remove("/var/lib/man-db/auto-update")
	h.file("/etc/dpkg/dpkg.cfg.d/test", "force-unsafe-io\n")
	w := &walker{h: h, folder: "/root/newcomer"}
	for _, name := range []string{"pg-primary-01", "ci-runner-07"} {
		h.file("/tmp/"+name+".xml", uuidLine.ReplaceAllString(strings.Replace(guestXML, "g1", name, 1), ""))
		w.run(name+" runs", "virsh define /tmp/"+name+".xml && virsh start "+name)
	}
	w.run("a folder with the packages", "mkdir "+w.folder+" && cp -r "+shared+"/dist "+w.folder)
	w.run("no Go", "! command -v go")
	return w
}

// shell runs a command.
func (w *walker) shell(command string) (exit int, out string) {
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", command)
	cmd.Stdin = strings.NewReader("y\ny\n") // the answers of a person whom apt asks
	cmd.WaitDelay = time.Second
	if _, err := os.Stat(w.folder); err == nil {
		cmd.Dir = w.folder
	}
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"}
	printed, err := cmd.CombinedOutput()
	if failed := (*exec.ExitError)(nil); err != nil && !errors.As(err, &failed) {
		return -1, string(printed) + err.Error()
	}
	return cmd.ProcessState.ExitCode(), string(printed)
}

// run runs a command of the test's, which must work.
func (w *walker) run(step, command string) {
	exit, out := w.shell(command)
	w.h.see(step, exit, "%s", out)
}

// follow runs the steps of a place, and records for each whether it went as documented.
func (w *walker) follow(at place) {
	if at.before != "" {
		w.run("before "+at.page+", "+at.section, at.before)
	}
	document, err := os.ReadFile(filepath.Join(shared, "documents", at.page))
	if err != nil {
		w.h.see("read "+at.page, 1, "%v", err)
		return
	}
	began, commands := time.Now(), 0
	for _, s := range docsteps.Parse(string(document)) {
		if at.section != "" && s.Section != at.section {
			continue
		}
		name := fmt.Sprintf("%s%s:%d", typed, at.page, s.Line)
		switch {
		case s.File != "":
			path := s.File
			if !filepath.IsAbs(path) {
				path = filepath.Join(w.folder, path)
			}
			w.h.file(path, s.Content)
		case at.without != "" && strings.Contains(s.Command, at.without):
		case s.Command != "":
			command := s.Command
			for word, text := range at.replace {
				command = strings.ReplaceAll(command, word, text)
			}
			commands++
			exit, out := w.shell(command)
			if strings.HasPrefix(command, "apt ") {
				// A person takes longer to the next command. Otherwise doctor cannot tell whether
				// the daemon started before the hook came, or after.
				time.Sleep(3 * time.Second)
			}
			if (exit == 0) != !s.IsRefused() || s.Language == "console" && !s.Matches(out) {
				w.h.see(name, 1, "%s\nexits with %d, and prints:\n%sThe document shows:\n%s", command, exit, out, s.Output)
			} else {
				w.h.see(name, 0, "%s\n%s", command, out)
			}
		}
	}
	if commands == 0 {
		w.h.see(typed+at.page, 1, "there is no command below %q", at.section)
	}
	w.h.see(allOf+at.page+" "+at.section, 0, "%d commands in %v", commands, time.Since(began).Round(time.Millisecond))
}

// Steps of what a document shows begin with typed, and one that sums up a place with allOf.
const (
	typed = "typed: "
	allOf = typed + "all of "
)

// newcomer does what a person does who has the README, the documents and the packages.
func newcomer(h *host) {
	w := newWalker(h)
	for _, at := range newcomersWay {
		w.follow(at)
	}
}

// reader does what other sections tell the operator of such a host.
func reader(h *host) {
	w := newWalker(h)
	for _, at := range readersPlaces {
		w.follow(at)
	}
}

// runDocuments runs a script on a machine with the documents and the packages.
func runDocuments(t *testing.T, script string, places []place) {
	t.Helper()
	packages := os.Getenv(packagesVariable)
	if packages == "" {
		t.Fatalf("%s names no folder with packages; run .ci/packages", packagesVariable)
	}
	m := newBareMachine(t)
	files, err := filepath.Glob(packages + "/*.deb")
	must(t, err)
	if len(files) != 4 {
		t.Fatalf("there are %d packages in %s, and should be 4: %q", len(files), packages, files)
	}
	for _, file := range files {
		m.copy(file, "dist/"+filepath.Base(file))
	}
	for _, at := range places {
		m.copy("../../../"+at.page, "documents/"+at.page)
	}
	m.copy("../../../examples/notify/webhook", "documents/examples/notify/webhook")
	began := time.Now()
	summed := 0
	for _, o := range m.run(script) {
		if o.Exit != 0 {
			t.Errorf("%s: %s", o.Step, o.Out)
		}
		if of, ok := strings.CutPrefix(o.Step, allOf); ok {
			t.Logf("%s: %s", of, o.Out)
			summed++
		}
	}
	if summed != len(places) {
		t.Errorf("%d of %d places were followed", summed, len(places))
	}
	t.Logf("a boot, all commands and the shutdown: %v", time.Since(began).Round(time.Second))
}

// A person with the README, the documents and the packages, on a host without Go, installs them
// with the gate, protects a domain, is refused its destroy with the reason, and writes, tests,
// signs and loads a rule, by the hook, the gate and the agent. Reading takes longer than the
// commands.
func TestFromThePackagesToARuleOfYourOwn(t *testing.T) {
	runDocuments(t, "newcomer", newcomersWay)
}

// What the other documents tell an operator to type does what it should on a real host.
func TestAnOperatorTypesWhatTheDocumentsShow(t *testing.T) {
	runDocuments(t, "reader", readersPlaces)
}
