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
)

var commands = []func() *cobra.Command{
	protect.Command, protect.Unprotect,
	check.Command, check.MayStop, replay.Command, explain.Command, coverage.Command,
	ticket.Command, hold.Command, log.Command, fleet.Command,
	policy.Command,
	status.Command, killswitch.Off, killswitch.On,
	install.Command, install.Uninstall, doctor.Command,
	man.Command,
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := cli.Root()
	for _, command := range commands {
		root.AddCommand(command())
	}
	os.Exit(cli.Run(ctx, root, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
