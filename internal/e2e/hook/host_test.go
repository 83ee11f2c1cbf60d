//go:build e2e

package e2e

import (
	"os"
	"regexp"
	"strings"

	"github.com/stopguard/stopguard/internal/e2ehost"
)

const (
	hookFile      = "/etc/libvirt/hooks/qemu.d/50-stopguard"
	programFile   = "/usr/libexec/stopguard-hook" // a link to the next
	programItself = "/usr/sbin/stopguard-hook"
	guestDir      = e2ehost.GuestDir

	patience = e2ehost.Patience
	tick     = e2ehost.Tick
	fresh    = e2ehost.Fresh
	kept     = e2ehost.Kept
)

var (
	daemonPID = e2ehost.DaemonPID
	daemonLog = e2ehost.DaemonLog
)

type (
	guest  = e2ehost.Guest
	answer = e2ehost.Answer
)

// A host has a daemon of its own and collects observations.
type host struct {
	*e2ehost.Host
	seen []observation
	log  int64 // how much of the daemon's log is of earlier steps

	record int // how much of the decision record is of earlier steps
}

// install puts the hook in place, with a site whose policy protects some domains and works.
func (h *host) install() {
	h.File(hookFile, h.Read(os.Getenv(frontVariable)), 0o755)
	h.File(programItself, h.Read(os.Getenv(programVariable)), 0o755)
	if err := os.Symlink("../sbin/stopguard-hook", programFile); err != nil {
		h.Fatalf("%v", err)
	}
	h.File(listFile, "# domains that nobody stops\nlisted-*\n", 0o644)
	h.File(ruleFile, "package stopguard.rules.site\n\nveto contains \"frozen by its title\" if input.domain.title == \"frozen\"\n", 0o644)
}

// stop calls the hook as a libvirt with the stop operation would.
func (h *host) stop(name, xml string) answer {
	return h.Command(xml, h.Environment(), hookFile, name, "stop", "begin", "-")
}

var hookCall = regexp.MustCompile(`About to run .*` + regexp.QuoteMeta(hookFile) + ` (\S+) (\S+) (\S+) (\S+)\n`)

// calls returns the operations for which the daemon has run the hook since the last step.
func (h *host) calls() string {
	data := h.Read(daemonLog)
	var operations []string
	for _, call := range hookCall.FindAllStringSubmatch(data[min(h.log, int64(len(data))):], -1) {
		operations = append(operations, call[2])
	}
	return strings.Join(operations, " ")
}

// nextStep resets the list of the hook's calls.
func (h *host) nextStep(doing string) {
	h.Doing = doing
	h.log = 0
	if info, err := os.Stat(daemonLog); err == nil {
		h.log = info.Size()
	}
}
