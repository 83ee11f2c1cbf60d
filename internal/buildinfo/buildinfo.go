// Package buildinfo reads which version of a program runs, from the information that Go builds into
// it.
package buildinfo

import "runtime/debug"

const opaModule = "github.com/open-policy-agent/opa"

// An Info describes the running program. What the program does not have is "(devel)" as its
// version, and "unknown" otherwise.
type Info struct {
	Version string // of stopguard: the release's tag, or the commit's pseudo-version
	Go      string // such as go1.26.8
	OPA     string // such as v1.22.2
}

// Read returns the description of the running program.
func Read() Info {
	info := Info{Version: "(devel)", Go: "unknown", OPA: "unknown"}
	build, ok := debug.ReadBuildInfo()
	if !ok {
		return info
	}
	info.Go = build.GoVersion
	if build.Main.Version != "" {
		info.Version = build.Main.Version
	}
	for _, dep := range build.Deps {
		if dep.Path == opaModule {
			info.OPA = dep.Version
		}
	}
	return info
}
