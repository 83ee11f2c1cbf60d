// Stopguard is the operator's tool: it sets marks, shows which domains are protected and why, grants tickets, reads the
// record, and installs and checks the hook.
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

	"github.com/stopguard/stopguard/internal/tool"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(tool.Run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
