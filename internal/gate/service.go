package gate

import (
	"context"
	"log/slog"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// notifySystemd reports a state to systemd, if systemd has started the gate.
func notifySystemd(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		slog.Warn("systemd cannot be told", "error", err)
	}
}

// runWatchdog pings systemd's watchdog twice in each of its intervals, if the unit has one.
func runWatchdog(ctx context.Context) {
	limit, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		slog.Warn("the watchdog's time cannot be read", "error", err)
	}
	if err != nil || limit == 0 {
		return
	}
	tick := time.NewTicker(limit / 2)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			notifySystemd(daemon.SdNotifyWatchdog)
		case <-ctx.Done():
			return
		}
	}
}
