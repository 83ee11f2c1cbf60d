// Package hold has the command hold.
package hold

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/stopguard/stopguard/internal/terminal"
	"github.com/stopguard/stopguard/internal/tool/cli"
	"github.com/stopguard/stopguard/internal/tool/domains"
	"github.com/stopguard/stopguard/policy/hold"
)

// Command returns the command hold.
func Command() *cobra.Command {
	var reason, operations string
	var atMost time.Duration
	c := &cobra.Command{
		Use:   "hold NAME|UUID --reason TEXT -- COMMAND [ARG...]",
		Short: "Protect a domain while a command runs",
		Long: `Protect a domain while a command runs, and not a second longer. A refusal says
who holds the domain, why and since when.

The hold ends with COMMAND, and with this program, however that ends: then the
kernel frees the hold and kills COMMAND. Programs that COMMAND started, or that
ran on as another user, may outlive it; have a script exec its last program.

A stop and a delete are refused, and what --operations names; --operations stop
refuses a stop alone. With --at-most the hold ends after that time, and COMMAND
runs on without it.

Root may hold, and each user to whom root gives a folder:

  install -d -o backup -m 0700 /run/stopguard/holds/backup

Other users than root name the domain by its UUID.

The exit code is that of COMMAND, or 128 and the signal that ended it. If the
domain cannot be held, COMMAND is not started, and the exit code is 1, or 2 for
a wrong command line.`,
		Example: `  stopguard hold pg-primary-01 --reason 'nightly backup' --at-most 12h -- \
    /usr/local/sbin/backup pg-primary-01`,
		Args: func(c *cobra.Command, args []string) error {
			dash := c.ArgsLenAtDash()
			if dash < 0 {
				dash = len(args)
			}
			switch {
			case dash == 0:
				return cli.Usage("no domain is named; name one before --")
			case dash > 1:
				return cli.Usage("%d arguments stand before -- (%s); name one domain, and write the command behind --", dash, strings.Join(args[:dash], ", "))
			case len(args) == dash:
				return cli.Usage("there is no command; write it behind --")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			_, against, err := cli.ParseOperations(operations)
			if err != nil {
				return err
			}
			if c.Flags().Changed("at-most") && atMost <= 0 {
				return cli.Usage("--at-most is %v; give a time of more than 0, such as 12h", atMost)
			}
			id, _, err := domains.Identify(args[0])
			if err != nil {
				return err
			}
			h, err := hold.Store{Root: cli.HostRoot()}.Acquire(hold.Request{Domain: id, Reason: reason, Operations: against, AtMost: atMost})
			if err != nil {
				return err
			}
			for _, operation := range against {
				cli.WarnUnenforced(c, operation)
			}
			err = run(c, args[0], h, exec.Command(args[1], args[2:]...))
			if failed := h.Release(); failed != nil {
				cli.Warn(c, "%v", failed)
			}
			return err
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "why it is held")
	cli.OperationsFlag(c, &operations, "what is refused, as in a mark, with commas between")
	cli.DurationVar(c, &atMost, "at-most", 0, "when the hold ends even if COMMAND runs on, such as 12h or 2d")
	cli.Required(c, "reason")
	cli.FreeText(c, "reason", "at-most")
	c.ValidArgsFunction = domains.Complete
	return c
}

// run runs the command to its end. The kernel kills the command if the thread that started it ends.
// So this goroutine stays on its thread.
func run(c *cobra.Command, name string, h *hold.Hold, command *exec.Cmd) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	command.Stdin, command.Stdout, command.Stderr = c.InOrStdin(), c.OutOrStdout(), c.ErrOrStderr()
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		return fmt.Errorf("the command cannot be started: %w; correct it", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	var over <-chan time.Time
	if !h.Until.IsZero() {
		over = time.After(time.Until(h.Until))
	}
	interrupted := c.Context().Done()
	for {
		select {
		case err := <-ended:
			return exitOf(err)
		case <-interrupted: // the signal is passed on, and the hold lasts until the command ends
			interrupted = nil
			_ = command.Process.Signal(syscall.SIGTERM)
		case <-over:
			over = nil
			cli.Warn(c, "%s is no longer held; the command runs on", terminal.Clean(name))
		}
	}
}

// An exitError is the end of a command that failed. The command has printed its error itself.
type exitError struct{ code int }

func (e exitError) Error() string { return fmt.Sprintf("the command ended with code %d", e.code) }
func (e exitError) ExitCode() int { return e.code }

func exitOf(err error) error {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &exit):
		return err
	case exit.Sys().(syscall.WaitStatus).Signaled():
		return exitError{128 + int(exit.Sys().(syscall.WaitStatus).Signal())}
	}
	return exitError{exit.ExitCode()}
}
