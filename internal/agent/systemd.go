package agent

import (
	"context"
	"net"
	"net/http"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/open-policy-agent/opa/v1/logging"
)

// notifySystemd sends a state to systemd, if systemd started the agent.
func notifySystemd(log logging.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("systemd cannot be told: %v", err)
	}
}

// watchdog pings systemd's watchdog as long as the agent answers on its own socket. An agent that
// cannot decide because of a broken file does answer, since a restart would not help.
func watchdog(ctx context.Context, log logging.Logger, socket string) {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil || interval == 0 {
		return
	}
	client := &http.Client{Timeout: interval / 3, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
		DisableKeepAlives: true,
	}}
	tick := time.NewTicker(interval / 3)
	defer tick.Stop()
	for {
		response, err := client.Get("http://agent/health")
		if err != nil {
			log.Error("the agent does not answer itself: %v", err)
		} else {
			response.Body.Close()
			notifySystemd(log, daemon.SdNotifyWatchdog)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
