// Stopguard is the operator's tool: it sets marks, shows which domains are protected and why,
// grants tickets, reads the record, and installs and checks the hook.
//
//	go build -trimpath -o /usr/bin/stopguard ./cmd/stopguard
//
// STOPGUARD_ROOT moves every path of the host, to try it out on a folder.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/stopguard/stopguard/internal/doctor"
	"github.com/stopguard/stopguard/internal/install"
	"github.com/stopguard/stopguard/internal/tool/check"
	"github.com/stopguard/stopguard/internal/tool/cli"
	"github.com/stopguard/stopguard/internal/tool/coverage"
	"github.com/stopguard/stopguard/internal/tool/explain"
	"github.com/stopguard/stopguard/internal/tool/fleet"
	"github.com/stopguard/stopguard/internal/tool/hold"
	"github.com/stopguard/stopguard/internal/tool/killswitch"
	"github.com/stopguard/stopguard/internal/tool/log"
	"github.com/stopguard/stopguard/internal/tool/man"
	"github.com/stopguard/stopguard/internal/tool/policy"
	"github.com/stopguard/stopguard/internal/tool/protect"
	"github.com/stopguard/stopguard/internal/tool/replay"
	"github.com/stopguard/stopguard/internal/tool/status"
	"github.com/stopguard/stopguard/internal/tool/ticket"
	"github.com/stopguard/stopguard/internal/tool/version"
)

// groups are the tool's commands as its help lists them.
var groups = []struct {
	title    string
	commands []func() *cobra.Command
}{
	{"Protect domains:", []func() *cobra.Command{protect.Command, protect.Unprotect, hold.Command, fleet.Command}},
	{"See what is protected, and why:", []func() *cobra.Command{
		status.Command, check.Command, check.MayStop, explain.Command, coverage.Command, log.Command,
	}},
	{"Let a domain go:", []func() *cobra.Command{ticket.Command, killswitch.Off, killswitch.On}},
	{"Write a policy:", []func() *cobra.Command{policy.Command, replay.Command}},
	{"Set up a host:", []func() *cobra.Command{install.Command, install.Uninstall, doctor.Command, version.Command}},
	{"", []func() *cobra.Command{man.Command}}, // for packagers
}

// root returns the tool with all commands.
func root() *cobra.Command {
	root := cli.Root()
	for _, g := range groups {
		if g.title != "" {
			root.AddGroup(&cobra.Group{ID: g.title, Title: g.title})
		}
		for _, command := range g.commands {
			c := command()
			c.GroupID = g.title
			root.AddCommand(c)
		}
	}
	return root
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(cli.Run(ctx, root(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
