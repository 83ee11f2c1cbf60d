// Stopguard-gate decides about every call on libvirt's socket that could end, pause, reset or move
// a domain, or take its protection away, before libvirtd gets it. It listens where clients look for
// libvirtd, and libvirtd where only root can reach it; see docs/gate.md.
package main

import (
	"os"

	"github.com/stopguard/stopguard/internal/gate"
)

func main() { os.Exit(gate.Main(os.Args)) }
