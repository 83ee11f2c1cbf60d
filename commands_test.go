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
	{"README.md", `packaging/build && apt install `, "TestAHost", "apt-get install", ""},
	{"*", `^stopguard install --gate /usr/sbin/stopguard-gate --restart$`, "TestAHost", "stopguard install --gate /usr/sbin/stopguard-gate --restart", ""},
	{"*", `^stopguard uninstall --gate --restart$`, "TestAHost", "stopguard uninstall --gate --restart", ""},
	{"*", `^stopguard doctor$`, "TestAHost", "stopguard doctor", ""},
	{"*", `^stopguard protect [a-z0-9-]+ (--operations [a-z,]+ )?--until 2099-06-30 --reason '[a-z ]+'$`, "TestAHost", "stopguard protect pg-01 --until", ""},

	{"packaging/README.md", `^packaging/build$`, ".ci/packages", "packaging/build", ""},
	{"packaging/README.md", `^ARCH=arm64 packaging/build$`, "", "", "it compiles everything once more, for a machine that the test does not have"},
	{"packaging/README.md", `^git tag -a v0\.1\.0`, "packaging/test/release", "git tag -f -a", ""},
	{"packaging/README.md", `^packaging/release v0\.1\.0$`, "packaging/test/release", "packaging/release", ""},
	{"packaging/README.md", `^systemctl reload libvirtd$`, "TestAHost", "systemctl reload libvirtd", ""},
	{"*", `^chmod -x /etc/libvirt/hooks/qemu.d/50-stopguard$`, "packaging/test/deb", "chmod -x", ""},
	{"packaging/README.md", `^systemctl enable --now stopguard-agent$`, "packaging/test/services", "stopguard-agent.service", ""},
	{"packaging/README.md", `^systemctl restart stopguard-agent$`, "TestAHost", "systemctl restart stopguard-agent", ""},
	{"packaging/monitoring/README.md", `^stopguard check -o prometheus`, "TestCheck", `"check", "-o", "prometheus"`, ""},
	{"*", `^(\.ci/(check|packages|run|hosts)( trixie)?|go test (\./\.\.\.|\. -update))$`, "", "", "it runs the tests"},

	{"docs/agent.md", `go build -trimpath -o /usr/sbin/stopguard-agent`, ".ci/e2e", "./cmd/stopguard-agent", ""},
	{"docs/agent.md", `^install -m `, "packaging/test/services", "stopguard-agent.service", ""},
	{"docs/agent.md", `^systemctl (enable --now|reload) stopguard-agent$`, "packaging/test/services", "stopguard-agent.service", ""},
	{"docs/agent.md", `^curl --unix-socket /run/stopguard/agent.sock`, "TestTheGuideToAControlPlaneWorks", "docs/control-plane.md", ""},
	{"docs/agent.md", `^go (run ./bench/agentload|test ./internal/agent -bench)`, "", "", "it measures a machine, for minutes"},
	{"docs/clients.md", `^stopguard ticket grant pg-primary-01 --reason 'it is over'( --operation delete)?$`, "TestWhatToolsLeaveThatAreRefused", "ticket grant NAME --requester anna --reason 'it is over'", ""},
	{"docs/cockpit.md", `^apt install `, ".ci/packages", "packaging/build", ""},
	{"docs/control-plane.md", ``, "TestTheGuideToAControlPlaneWorks", "docs/control-plane.md", ""},
	{"docs/coverage.md", `^stopguard coverage$`, "TestCompletionManAndVersion", `"coverage"`, ""},
	{"docs/fleet.md", ``, "TestThePageIsFollowed", "docs/fleet.md", ""},
	{"docs/gate.md", `go build -trimpath -o `, ".ci/e2e", "go build -trimpath -o", ""},
	{"docs/gate.md", `^stopguard install --hook /tmp/stopguard-hook --gate `, "TestTheGateComesAndGoes", `"install", "--hook", shared+"/stopguard-hook", "--gate"`, ""},
	{"docs/gate.md", `^systemctl enable --now stopguard-shutdown.service$`, "TestTheGateComesAndGoes", `"enable", "--now", "stopguard-shutdown.service"`, ""},
	{"docs/gate.md", `^stopguard ticket grant --all `, "TestAHostIsDrainedWithTicketsForAllOfIt", `"ticket", "grant", "--all"`, ""},
	{"docs/gate.md", `^grep stopguard_gate_autodestroy `, "TestAGuestThatIsProtectedAfterItsStartWithAutodestroyIsSeenAndLost", "stopguard_gate_autodestroy", ""},
	{"*", `^touch /etc/stopguard/gate-off$`, "TestAHost", "touch /etc/stopguard/gate-off", ""},
	{"docs/gate.md", `^systemctl reload stopguard-gate$`, "TestAHost", "systemctl reload stopguard-gate", ""},
	{"docs/gate.md", `^echo refuse-unknown=true `, "TestOptionsCanBeCheckedBeforeTheyCount", `"-check"`, ""},
	{"docs/gate.md", `^ln -s /run/stopguard/gate.prom`, "", "", "node_exporter reads the link, which is another program"},
	{"docs/gate.md", `^(rm /etc/systemd/system/|systemctl (disable --now stopguard-gate.socket|stop|try-restart) )`, "", "", "by hand, for a host without the tool; TestAHost takes the gate away with the tool"},
	{"docs/holds.md", ``, "TestTheDocumentsCommandsWork", "docs/holds.md", ""},
	{"docs/notify.md", `^useradd --system stopguard-notify$`, "TestTheSitesProgramIsToldByGateAndAgentInTheirUnits", "user: nobody", "it runs the program as a user that is there already"},
	{"docs/notify.md", `^install -o root `, "TestTheExampleTellsAWebhook", "examples/notify/webhook", ""},
	{"docs/operations.md", `^stopguard ticket grant NAME `, "TestEachWayInWhichProtectionGoesIsToldOnce", "Event{What: TicketGranted", "it grants the ticket by the package, and TestTicket by the command"},
	{"docs/operations.md", `^stopguard off$`, "TestOffAndOn", `s.Tool("off")`, ""},
	{"docs/tickets.md", `^stopguard ticket (grant|list|request|approve|reject) ?`, "TestTicket_requestAndApprove", "docs/tickets.md", ""},
	{"docs/tickets.md", `^stopguard ticket revoke ID$`, "TestTicket", `"ticket", "revoke"`, ""},
	{"examples/policy-bundle/README.md", ``, "TestTheREADMEIsTrue", `os.ReadFile("README.md")`, ""},
}

var (
	commandBlock = regexp.MustCompile("(?ms)^```(sh|console)\n(.*?)^```$")
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
