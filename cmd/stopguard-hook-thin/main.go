// Stopguard-hook-thin is the thin hook program of a host with an agent. It links neither OPA nor
// libvirt's types, and so starts in a fraction of the full program's time.
//
//	CGO_ENABLED=0 go build -trimpath -o stopguard-hook-thin ./cmd/stopguard-hook-thin
//
// stopguard install --thin puts it in its place. The full program is beside it, by the same name
// without -thin. The shell front runs this one where it is the faster.
package main

import (
	"os"
	"strings"

	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/thinhook"
)

func main() {
	hookproto.Main(thinhook.Handler(os.Getenv("STOPGUARD_ROOT"), fullProgram()))
}

// fullProgram returns the path of the full hook program.
func fullProgram() string {
	const suffix = "-thin"
	if self, err := os.Executable(); err == nil && strings.HasSuffix(self, suffix) {
		return strings.TrimSuffix(self, suffix)
	}
	return "/usr/libexec/stopguard-hook"
}
