package hookproto_test

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/stopguard/stopguard/hookproto"
)

// This hook refuses to stop one domain. As a program, its main is hookproto.Main(protect).
func Example() {
	protect := func(_ context.Context, e *hookproto.Event) error {
		if e.Op == hookproto.OpStop && e.Domain == "pg-primary-01" {
			return &hookproto.Veto{Reason: "the billing database; ask its owners first", Rule: "billing"}
		}
		return nil
	}
	for _, call := range []string{"pg-primary-01 stop begin -", "web-01 stop begin -", "pg-primary-01 reconnect begin -"} {
		args := append([]string{"/etc/libvirt/hooks/qemu"}, strings.Fields(call)...)
		code := hookproto.Run(context.Background(), args, os.Stdin, os.Stdout, protect) // a hook writes to os.Stderr
		fmt.Printf("%s: exit %d\n", call, code)
	}
	// Output:
	// stopguard: veto: pg-primary-01: the billing database; ask its owners first (rule billing)
	// pg-primary-01 stop begin -: exit 1
	// web-01 stop begin -: exit 0
	// pg-primary-01 reconnect begin -: exit 0
}
