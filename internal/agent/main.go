package agent

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/open-policy-agent/opa/v1/logging"
)

// Main runs the agent until SIGINT or SIGTERM, and returns its exit code. SIGHUP reloads the
// configuration.
func Main(args []string) int {
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
	if len(args) > 1 {
		return fail(fmt.Errorf("%q is not understood; the agent takes no arguments, its configuration is /etc/stopguard/agent.yaml", args[1]))
	}
	a, err := newAgent(ctx, os.Getenv("STOPGUARD_ROOT"), newLogger(os.Getenv("STOPGUARD_LOG")))
	if err != nil {
		return fail(err)
	}
	defer a.stop() // after the error is printed: a plugin may take long to stop
	if err := a.run(ctx, reload); err != nil {
		return fail(err)
	}
	return 0
}

func fail(err error) int {
	fmt.Fprintf(os.Stderr, "stopguard-agent: %v\n", err)
	return 1
}

// newLogger returns OPA's own logger, so that one log has one form. level is debug, info, or error;
// anything else means info.
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
