package doctor

import (
	"fmt"
	"time"

	"github.com/stopguard/stopguard/internal/notify"
	"github.com/stopguard/stopguard/internal/terminal"
	"github.com/stopguard/stopguard/policy"
)

// maxWait is the time for which an event may wait before that is a finding.
const maxWait = 10 * time.Minute

// checkNotify checks whether the site's program receives the events about lost protection.
func (d *doctor) checkNotify(site *policy.Notify) {
	if site == nil {
		return
	}
	if err := notify.Check(d.Root, *site); err != nil {
		d.addError(severityWarning, "notify", fmt.Errorf("nobody is told when protection goes: %w", err))
		return
	}
	status, err := notify.StatusOf(d.Root, time.Now())
	byHand := fmt.Sprintf("run it by hand: echo '{}' | runuser -u %s -- %s", site.User, terminal.ShellWord(site.Program))
	switch f := status.Failure; {
	case err != nil:
		d.addError(severityWarning, "notify", fmt.Errorf("whether %s is told cannot be seen: %w", site.Program, err))
	case !status.Runs:
		d.warning("notify", "systemctl start stopguard-agent, or stopguard-gate", "neither an agent nor a gate runs that would have %s told when protection goes", site.Program)
	case f != nil:
		d.warning("notify", byHand, "%s has failed since %s (%s, %s waiting): %s", site.Program, f.Since.UTC().Format(time.RFC3339),
			terminal.Counted(f.Failures, "time"), terminal.Counted(status.Waiting, "event"), terminal.Clean(f.Error))
	case status.Oldest > maxWait:
		d.warning("notify", byHand, "%s has not taken an event for %v", site.Program, status.Oldest.Round(time.Minute))
	default:
		d.ok("notify", "%s is told when protection goes", site.Program)
	}
}
