//go:build e2e

package e2e

import (
	"slices"
	"strings"
	"testing"

	"github.com/stopguard/stopguard/internal/gate/call"
)

// shownElsewhere are procedures that have hosts of their own.
//
// libvirt 9.0.0 has no DOMAIN_SET_AUTOSTART_ONCE; it is read as DOMAIN_SET_AUTOSTART is.
var shownElsewhere = []string{"NODE_SUSPEND_FOR_DURATION", "MIGRATE_BEGIN3_PARAMS", "SET_AUTOSTART_ONCE"}

func TestEveryProcedureThatIsDecidedAboutIsShownWithTheRealDaemon(t *testing.T) {
	shown := slices.Concat(shownElsewhere, shownByDeletes)
	add := func(name string) {
		procedure, _, _ := strings.Cut(name, ",")
		shown = append(shown, procedure)
	}
	for _, c := range virshCases {
		add(c.name)
	}
	for _, c := range linuxCases {
		add(c.name)
	}
	for _, c := range snapshotCases {
		add(c.name)
	}
	for _, c := range rpcCases {
		add(c.name)
	}
	rows := 0
	for program, last := range map[uint32]uint32{call.Remote: 453, call.QEMU: 7} {
		for n := range last + 1 {
			if call.Of(program, n) != call.Hold {
				continue
			}
			rows++
			name := strings.TrimPrefix(strings.TrimPrefix(call.Name(program, n), "QEMU_"), "DOMAIN_")
			if !slices.Contains(shown, name) {
				t.Errorf("nothing shows %s (%d)", name, n)
			}
		}
	}
	if rows < 45 {
		t.Errorf("%d procedures only are decided about", rows)
	}
}
