// Command stopguard-agent answers, on one host, whether a domain may be stopped, by bundles of policy that it gets from a
// control plane, and sends its decisions to one. Both are OPA's own: bundles, discovery, decision logs and status work, and
// are configured, as they are with OPA, in /etc/stopguard/agent.yaml.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/open-policy-agent/opa/v1/logging"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer cancel()
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	reload := make(chan struct{})
	go func() {
		for range hangups {
			reload <- struct{}{}
		}
	}()
	if len(os.Args) > 1 {
		fail(fmt.Errorf("%q is not understood; the agent takes no arguments, its configuration is /etc/stopguard/agent.yaml", os.Args[1]))
	}
	a, err := newAgent(ctx, os.Getenv("STOPGUARD_ROOT"), newLogger(os.Getenv("STOPGUARD_LOG")))
	if err == nil {
		err = a.run(ctx, reload)
	}
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintf(os.Stderr, "stopguard-agent: %v\n", err)
	os.Exit(1)
}

// newLogger makes OPA's own logger, so that one log has one form. level is debug, info, or error; anything else means info.
func newLogger(level string) logging.Logger {
	log := logging.New()
	switch level {
	case "debug":
		log.SetLevel(logging.Debug)
	case "error":
		log.SetLevel(logging.Error)
	default:
		log.SetLevel(logging.Info)
	}
	return log
}
