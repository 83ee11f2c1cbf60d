//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/stopguard/stopguard/internal/e2ehost"
)

// descriptors has clients take all descriptors of the gate, and go again.
func (h *host) descriptors() {
	h.begin()
	h.DirectOK("define", h.Write(resting))
	h.note("before", h.Virsh("list", "--all", "--name"))
	const most = 60
	if err := unix.Prlimit(h.Gate.Process.Pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: most, Max: most}, nil); err != nil {
		h.Fatalf("%v", err)
	}
	h.Doing = "clients take all descriptors"
	var clients []net.Conn
	for range most { // the last ones are turned away, or wait
		conn, err := net.Dial("unix", gateSocket)
		if err != nil {
			h.Fatalf("%v", err)
		}
		clients = append(clients, conn)
	}
	for i := range 5 {
		h.note(fmt.Sprint("without descriptors ", i), h.Virsh("list", "--all", "--name"))
	}
	h.Doing = "they go"
	for _, conn := range clients {
		if err := conn.Close(); err != nil {
			h.Fatalf("%v", err)
		}
	}
	var got e2ehost.Answer
	h.Until("the gate serves again", func() bool {
		got = h.Virsh("list", "--all", "--name")
		return got.Exit == 0
	})
	h.note("after", got)
}

func TestOutOfDescriptorsTheGateNamesItselfAndServesAgain(t *testing.T) {
	for _, s := range on(t, "descriptors") {
		t.Run(s.Name, func(t *testing.T) {
			if !strings.HasPrefix(s.Name, "without") {
				if strings.TrimSpace(s.Through.Stdout) != resting.Name {
					t.Errorf("%+v", s.Through)
				}
				return
			}
			if s.Through.Exit != 1 || !strings.Contains(s.Through.Stderr, "error: stopguard-gate is out of file descriptors: ") || strings.Contains(s.Through.Stderr, "libvirtd") {
				t.Errorf("%+v", s.Through)
			}
		})
	}
}
