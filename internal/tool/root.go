package tool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// What the tool exits with.
const (
	exitFailed = 1 // it could not be done, or not for every domain
	exitUsage  = 2 // the command line asks for nothing that there is
)

// Run executes the command line of the tool and returns its exit code. args is without the program's name.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRoot()
	started := false
	noteStart(root, &started)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	command, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	if told, ok := err.(interface{ ExitCode() int }); ok {
		return told.ExitCode()
	}
	var usage *usageError
	if !started || errors.As(err, &usage) {
		fmt.Fprintf(stderr, "stopguard: %s\nSee %s --help.\n", oneLine(err.Error()), command.CommandPath())
		return exitUsage
	}
	fmt.Fprintln(stderr, "stopguard: "+oneLine(err.Error()))
	return exitFailed
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "stopguard",
		Short: "Protect libvirt domains from being stopped by mistake",
		Long: `Protect libvirt domains from being stopped by mistake.

Exit codes: 0 done, 1 not done or not for every domain, 2 a wrong command line.`,
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetVersionTemplate("stopguard {{.Version}}\n")
	root.AddCommand(
		newProtect(), newUnprotect(),
		newCheck(), newReplay(), newExplain(), newCoverage(),
		newTicket(), newLog(),
		newInstall(), newUninstall(), newDoctor(),
		newMan(),
	)
	return root
}

// noteStart tells a command that was never begun, for its command line is wrong, from one that failed.
func noteStart(c *cobra.Command, started *bool) {
	if do := c.RunE; do != nil {
		c.RunE = func(c *cobra.Command, args []string) error {
			*started = true
			return do(c, args)
		}
	}
	for _, sub := range c.Commands() {
		noteStart(sub, started)
	}
}

// one has a command refused unless it has exactly one argument, which names a such.
func one(such string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch len(args) {
		case 0:
			return usage("nothing is named; name one %s", such)
		case 1:
			return nil
		}
		return usage("%d arguments are given (%s); name one %s", len(args), strings.Join(args, ", "), such)
	}
}

// A usageError says what is wrong with the command line.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usage(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// A toldError is a failure of which everything has been printed. Any error with an ExitCode is.
type toldError struct{}

func (*toldError) Error() string { return "see above" }
func (*toldError) ExitCode() int { return exitFailed }

// warn prints what went wrong and is not the end of it.
func warn(c *cobra.Command, format string, args ...any) {
	fmt.Fprintln(c.ErrOrStderr(), "stopguard: "+oneLine(fmt.Sprintf(format, args...)))
}

// hostRoot is the folder below which the host's files are, an absolute path; "" for the host itself.
func hostRoot() string {
	root := os.Getenv("STOPGUARD_ROOT")
	if root == "" {
		return ""
	}
	if absolute, err := filepath.Abs(root); err == nil {
		return absolute
	}
	return root // without a working directory, what follows will say so
}

func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
