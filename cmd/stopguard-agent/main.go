// Stopguard-agent answers, on one host, whether a domain may be stopped, by bundles of policy that
// it gets from a control plane, and sends its decisions to one; see docs/agent.md.
package main

import (
	"os"

	"github.com/stopguard/stopguard/internal/agent"
)

func main() { os.Exit(agent.Main(os.Args)) }
