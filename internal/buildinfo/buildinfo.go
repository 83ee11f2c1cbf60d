// Package buildinfo reads the version of the running program from the information that Go builds
// into it.
package buildinfo

import (
	"runtime/debug"

	"github.com/open-policy-agent/opa/v1/version"
)

// An Info describes the running program.
type Info struct {
	Version string // the release's tag, the commit's pseudo-version, or "(devel)"
	Go      string // such as go1.26.8
	OPA     string // such as v1.22.2
}

// Read returns the description of the running program.
func Read() Info {
	info := Info{Version: "(devel)", Go: version.GoVersion, OPA: "v" + version.Version}
	if build, ok := debug.ReadBuildInfo(); ok && build.Main.Version != "" {
		info.Version = build.Main.Version
	}
	return info
}
