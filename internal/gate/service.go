package gate

import (
	"context"
	"log/slog"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// tell tells systemd how it stands, if it is systemd who started the gate.
func tell(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		slog.Warn("systemd cannot be told", "error", err)
	}
}

// watched tells systemd twice in each of its watchdog's times that the gate is alive, if its unit
// has a watchdog.
func watched(ctx context.Context) {
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
			tell(daemon.SdNotifyWatchdog)
		case <-ctx.Done():
			return
		}
	}
}
