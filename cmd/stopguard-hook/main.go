// Hook is a complete hook binary: it refuses to stop the domains that this host's list, marks and
// rules protect.
//
// To try it on the sample host beside this file:
//
//	STOPGUARD_ROOT=cmd/stopguard-hook/testdata/host go run ./cmd/stopguard-hook pg-primary-01 stop begin - < cmd/stopguard-hook/testdata/pg-primary-01.xml
//
// On a host it is /usr/sbin/stopguard-hook, with a link to it in /usr/libexec. libvirt runs
// hookproto/front.sh, which runs the link.
package main

import (
	"github.com/stopguard/stopguard"
	"github.com/stopguard/stopguard/hookproto"
)

func main() {
	hookproto.Main(stopguard.Handler(stopguard.Config{}))
}
