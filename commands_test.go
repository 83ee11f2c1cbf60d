package stopguard_test

import (
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// ranCommands says for the commands in the documents' blocks by which test they are run: a Go test,
// or a script. The test's package, or the script, must contain the text. A command without a test
// has the reason.
var ranCommands = []struct{ page, command, test, contains, why string }{
	{"README.md", `go run ./cmd/stopguard-hook `, "TestTheREADMEsCommandsWork", "## Try it", ""},
	{"README.md", `^virsh destroy pg-primary-01$`, newcomer, `{page: "README.md", section: "stopguard"}`, ""},
	{"README.md", `^apt install \./dist/stopguard_\*\.deb \./dist/stopguard-gate_\*\.deb$`, newcomer, `{page: "README.md", section: "Install it"}`, ""},
	{"docs/first-steps.md", ``, newcomer, `{page: "docs/first-steps.md"}`, ""},
	{"*", `^stopguard install --gate /usr/sbin/stopguard-gate --restart$`, newcomer, `{page: "README.md", section: "Install it"}`, ""},
	{"*", `^stopguard uninstall --gate --restart$`, newcomer, `{page: "docs/first-steps.md"}`, ""},
	{"*", `^stopguard doctor$`, newcomer, `{page: "README.md", section: "Install it"}`, ""},
	{"docs/gate.md", `^virsh managedsave pg-primary-01$`, operator, `{page: "docs/gate.md", section: "The gate"}`, ""},
	{"docs/gate.md", `^stopguard protect `, operator, `{page: "docs/gate.md", section: "What it protects by default"`, ""},
	{"docs/coverage.md", `^stopguard protect `, operator, `{page: "docs/coverage.md", section: "What the default protects"`, ""},
	{"README.md", `^stopguard protect `, newcomer, `{page: "README.md", section: "Install it"}`, ""},

	{"packaging/README.md", `^packaging/build$`, ".ci/packages", "packaging/build", ""},
	{"packaging/README.md", `^ARCH=arm64 packaging/build$`, "", "", "it compiles everything once more, for a machine that the test does not have"},
	{"packaging/README.md", `^git tag -a v0\.1\.0`, "packaging/test/release", "git tag -f -a", ""},
	{"packaging/README.md", `^packaging/release v0\.1\.0$`, "packaging/test/release", "packaging/release", ""},
	{"packaging/README.md", `^systemctl reload libvirtd$`, operator, `{page: "packaging/README.md", section: "Switch the hook on and off"}`, ""},
	{"*", `^chmod -x /etc/libvirt/hooks/qemu.d/50-stopguard$`, operator, `{page: "packaging/README.md", section: "Switch the hook on and off"}`, ""},
	{"packaging/README.md", `^systemctl (enable --now|restart) stopguard-agent$`, operator, `{page: "packaging/README.md", section: "The agent"}`, ""},
	{"packaging/monitoring/README.md", `^stopguard check -o prometheus`, operator, `{page: "packaging/monitoring/README.md", section: "Alerts and a dashboard"}`, ""},
	{"*", `^(\.ci/(check|packages|run|hosts)( trixie)?|go test (\./\.\.\.|\. -update))$`, "", "", "it runs the tests"},

	{"docs/agent.md", `^systemctl reload stopguard-agent$`, operator, `{page: "docs/agent.md", section: "Change its configuration"}`, ""},
	{"docs/agent.md", `^(apt install|install -m|systemctl enable --now|curl) `, operator, `{page: "docs/agent.md", section: "Install it"`, ""},
	{"docs/agent.md", `^go (run ./bench/agentload|test ./internal/agent -bench)`, "", "", "it measures a machine, for minutes"},
	{"docs/clients.md", `^stopguard ticket grant pg-primary-01 --reason 'it is over'( --operation delete)?$`, operator, `{page: "docs/clients.md", section: "What to set"}`, ""},
	{"docs/cockpit.md", `^apt install `, operator, `{page: "docs/cockpit.md", section: "The page in Cockpit"}`, ""},
	{"docs/control-plane.md", ``, operator, `{page: "docs/control-plane.md"`, ""},
	{"docs/coverage.md", `^stopguard coverage$`, operator, `{page: "docs/coverage.md", section: "What is covered"}`, ""},
	{"docs/fleet.md", `^virsh destroy pg-1$`, "", "", "it shows what the rest of the page leads to; TestThePageIsFollowed asks the hook, and has other names"},
	{"docs/fleet.md", ``, "TestThePageIsFollowed", "docs/fleet.md", ""},
	{"docs/gate.md", `go build -trimpath -o `, ".ci/e2e", "go build -trimpath -o", ""},
	{"docs/gate.md", `^stopguard install --hook /tmp/stopguard-hook --gate `, "TestTheGateComesAndGoes", `section: "Without the packages"`, ""},
	{"docs/gate.md", `^systemctl edit virtnwfilterd.socket `, "", "", "it opens an editor"},
	{"docs/gate.md", `^systemctl enable --now stopguard-shutdown.service$`, operator, `{page: "docs/gate.md", section: "Shutdown of the host"}`, ""},
	{"docs/gate.md", `^stopguard ticket grant --all `, operator, `{page: "docs/gate.md", section: "Maintenance"}`, ""},
	{"docs/gate.md", `^grep stopguard_gate_autodestroy `, "TestAGuestThatIsProtectedAfterItsStartWithAutodestroyIsSeenAndLost", "stopguard_gate_autodestroy", ""},
	{"*", `^touch /etc/stopguard/gate-off$`, operator, `{page: "docs/gate.md", section: "Guests that hang"}`, ""},
	{"docs/gate.md", `^systemctl reload stopguard-gate$`, operator, `{page: "docs/gate.md", section: "A new version of the gate"}`, ""},
	{"docs/gate.md", `^echo refuse-unknown=true `, operator, `{page: "docs/gate.md", section: "Options"}`, ""},
	{"docs/gate.md", `^ln -s /run/stopguard/gate.prom`, operator, `{page: "docs/gate.md", section: "Metrics"`, ""},
	{"docs/gate.md", `^(rm /etc/systemd/system/libvirtd|systemctl (disable --now stopguard-gate.socket|stop libvirtd.socket) )`, operator, `{page: "docs/gate.md", section: "Without the tool"}`, ""},
	{"docs/gate.md", `^(rm /etc/systemd/system/{virtqemud|systemctl (stop virtqemud.socket|try-restart virtproxyd))`, "TestTheGateComesAndGoesBeforeVirtqemud", `section: "Without the tool, before virtqemud"`, ""},
	{"docs/holds.md", ``, "TestTheDocumentsCommandsWork", "docs/holds.md", ""},
	{"docs/notify.md", `^(useradd --system|install -o root) `, operator, `{page: "docs/notify.md", section: "Told when protection goes"`, ""},
	{"docs/operations.md", `^stopguard ticket grant NAME `, operator, `{page: "docs/operations.md", section: "Hear of it"`, ""},
	{"docs/operations.md", `^stopguard off$`, operator, `{page: "docs/operations.md", section: "The first month"`, ""},
	{"docs/tickets.md", `^stopguard ticket (grant pg-primary-01 --reason 'disk swap, CHG-1234' --for 2h|list|revoke ID)$`, operator, `{page: "docs/tickets.md", section: "Tickets"`, ""},
	{"docs/tickets.md", `^stopguard ticket (request|approve) `, "TestTicket_requestAndApprove", "docs/tickets.md", ""},
	{"examples/policy-bundle/README.md", ``, "TestTheREADMEIsTrue", `os.ReadFile("README.md")`, ""},
}

// The tests that run the commands of whole sections, as they stand there, on a host with the
// packages.
const (
	newcomer = "TestFromThePackagesToARuleOfYourOwn"
	operator = "TestAnOperatorTypesWhatTheDocumentsShow"
)

var (
	commandBlock = regexp.MustCompile("(?ms)^ *```(sh|console)\n(.*?)^ *```$")
	otherBlock   = regexp.MustCompile("(?ms)^```\n(.*?)^```$")
	shellComment = regexp.MustCompile(`(^|\s+)#.*`)
	hereDocument = regexp.MustCompile(`(?ms)<<EOF\n.*?^EOF$`)
)

// commandsOf returns the commands of a document's blocks.
func commandsOf(text string) (commands []string) {
	for _, m := range commandBlock.FindAllStringSubmatch(text, -1) {
		body := strings.ReplaceAll(hereDocument.ReplaceAllString(m[2], ""), "\\\n", " ")
		for line := range strings.Lines(body) {
			if m[1] == "console" {
				command, ok := strings.CutPrefix(line, "$ ")
				if !ok {
					continue
				}
				line = command
			}
			if line = strings.TrimSpace(shellComment.ReplaceAllString(line, "")); line != "" {
				commands = append(commands, line)
			}
		}
	}
	return commands
}

// Each command in the documents is run by a test, or there is a reason why none runs it. A command
// that was added without either fails here, and so does a row for a command or test that is gone.
func TestEachCommandInTheDocumentsIsRunByATest(t *testing.T) {
	packages := map[string]string{} // the tests' text by folder
	defined := map[string]string{}  // the folder by test
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, "_test.go") && path != "commands_test.go" {
			text := string(read(t, path))
			packages[filepath.Dir(path)] += text
			for _, m := range regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9_]+)\(`).FindAllStringSubmatch(text, -1) {
				defined[m[1]] += filepath.Dir(path) + "\n"
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	used, commands := map[int]bool{}, 0
	for page, text := range documents(t) {
		if strings.HasPrefix(page, "docs/decisions/") || strings.HasPrefix(page, "testdata/") {
			continue
		}
		for _, m := range otherBlock.FindAllStringSubmatch(commandBlock.ReplaceAllString(text, ""), -1) {
			if strings.HasPrefix(m[1], "$ ") {
				t.Errorf("%s: a block with a command is not marked as console: %s", page, m[1])
			}
		}
	command:
		for _, command := range commandsOf(text) {
			commands++
			for i, r := range ranCommands {
				if (r.page == "*" || r.page == page) && regexp.MustCompile(r.command).MatchString(command) {
					used[i] = true
					continue command
				}
			}
			t.Errorf("%s: no test runs %q; run it in one, and name that in ranCommands", page, command)
		}
	}
	if commands < 100 {
		t.Errorf("only %d commands are found", commands)
	}
	for i, r := range ranCommands {
		var text string
		switch {
		case !used[i]:
			t.Errorf("%s has no command %q any more", r.page, r.command)
		case r.test == "" && r.why == "":
			t.Errorf("%s: %q has neither a test nor a reason", r.page, r.command)
		case r.test == "":
			continue
		case strings.HasPrefix(r.test, "Test"):
			for folder := range strings.Lines(defined[r.test]) {
				text += packages[strings.TrimSpace(folder)]
			}
		default:
			text = string(read(t, r.test))
		}
		if r.test != "" && !strings.Contains(text, r.contains) {
			t.Errorf("%s: %q is not run by %s, which has no %q", r.page, r.command, r.test, r.contains)
		}
	}
}
