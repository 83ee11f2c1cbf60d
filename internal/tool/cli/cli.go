package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stopguard/stopguard/internal/buildinfo"
	"github.com/stopguard/stopguard/internal/terminal"
)

// The tool's exit codes.
const (
	exitFailed = 1 // the command failed, at least for some domains
	exitUsage  = 2 // the command line is wrong
)

// Run executes the command line of the tool and returns its exit code. args is without the
// program's name.
func Run(ctx context.Context, root *cobra.Command, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
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
	if exit, ok := err.(interface{ ExitCode() int }); ok {
		return exit.ExitCode()
	}
	var usage *UsageError
	if !started || errors.As(err, &usage) {
		fmt.Fprintf(stderr, "stopguard: %s\nSee %s --help.\n", terminal.OneLine(err.Error()), command.CommandPath())
		return usageExit(command, args)
	}
	if line := NeedsRoot(err); line != nil {
		err = line
	}
	fmt.Fprintln(stderr, "stopguard: "+terminal.OneLine(err.Error()))
	return exitFailed
}

// Root returns the tool with some commands.
func Root(commands ...*cobra.Command) *cobra.Command {
	root := &cobra.Command{
		Use:   "stopguard",
		Short: "Protect libvirt domains from being stopped by mistake",
		Long: `Protect libvirt domains from being stopped by mistake.

Exit codes: 0 done, 1 not done or not for every domain, 2 a wrong command line.`,
		Version:       buildinfo.Read().Version,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetVersionTemplate("stopguard {{.Version}}\n")
	root.AddCommand(commands...)
	return root
}

// noteStart sets started when a command runs. So a command that was not started, because its
// command line is wrong, differs from one that failed.
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

// ExactArg returns a check that a command has exactly one argument. noun is for the message.
func ExactArg(noun string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch len(args) {
		case 0:
			return Usage("nothing is named; name one %s", noun)
		case 1:
			return nil
		}
		return Usage("%d arguments are given (%s); name one %s", len(args), strings.Join(args, ", "), noun)
	}
}

// A UsageError describes an error in the command line.
type UsageError struct{ text string }

func (e *UsageError) Error() string { return e.text }

// Usage returns a UsageError.
func Usage(format string, args ...any) error { return &UsageError{fmt.Sprintf(format, args...)} }

// A ToldError is a failure that is printed already. So is any other error with an ExitCode.
type ToldError struct{}

func (*ToldError) Error() string { return "see above" }
func (*ToldError) ExitCode() int { return exitFailed }

// An exitError is a result that has been printed.
type exitError struct{ code int }

func (e exitError) Error() string { return fmt.Sprintf("exit code %d", e.code) }
func (e exitError) ExitCode() int { return e.code }

// Exit returns an error that makes the tool exit with a code, without printing anything.
func Exit(code int) error { return exitError{code} }

// The annotations of a command with its own exit code for a wrong command line.
const (
	usageCode   = "usage-code"
	usageOption = "usage-option"
)

// UsageExit sets the exit code of a wrong command line. If option is not "", the code holds only
// with that option.
func UsageExit(c *cobra.Command, code int, option string) {
	c.Annotations = map[string]string{usageCode: strconv.Itoa(code), usageOption: option}
}

func usageExit(c *cobra.Command, args []string) int {
	code, err := strconv.Atoi(c.Annotations[usageCode])
	option := c.Annotations[usageOption]
	// The command line may be wrong before the option is parsed.
	if err != nil || option != "" && !slices.ContainsFunc(args, func(arg string) bool { return arg == "--"+option || arg == "--"+option+"=true" }) {
		return exitUsage
	}
	return code
}

// Warn prints an error after which the command continues.
func Warn(c *cobra.Command, format string, args ...any) {
	fmt.Fprintln(c.ErrOrStderr(), "stopguard: "+terminal.OneLine(fmt.Sprintf(format, args...)))
}

// HostRoot returns the absolute path of the folder that contains the host's files; "" for the host
// itself.
func HostRoot() string {
	root := os.Getenv("STOPGUARD_ROOT")
	if root == "" {
		return ""
	}
	if absolute, err := filepath.Abs(root); err == nil {
		return absolute
	}
	return root // without a working directory, later steps report the error
}

// Required makes options of a command mandatory.
func Required(c *cobra.Command, names ...string) {
	for _, name := range names {
		if err := c.MarkFlagRequired(name); err != nil {
			panic(err)
		}
	}
}

// CompleteFlag completes an option with fixed values.
func CompleteFlag(c *cobra.Command, name string, values ...string) {
	if err := c.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err)
	}
}

// FreeText makes a shell propose nothing for options. Otherwise it would propose files.
func FreeText(c *cobra.Command, names ...string) {
	for _, name := range names {
		CompleteFlag(c, name)
	}
}

// CompleteFlagBy completes an option by a function.
func CompleteFlagBy(c *cobra.Command, name string, complete cobra.CompletionFunc) {
	if err := c.RegisterFlagCompletionFunc(name, complete); err != nil {
		panic(err)
	}
}
