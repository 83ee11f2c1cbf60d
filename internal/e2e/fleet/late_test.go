//go:build e2e

package fleet

import (
	"syscall"
	"testing"
	"time"
)

// A node that hangs for a while has requests in its sockets, which it executes when it goes on.
// Their client has long sent them to another node.
func TestALateChangeDoesNotBringAMemberBack(t *testing.T) {
	c := newCluster(t, "kvm-1")
	one := c.join("kvm-1", "a")
	one.has(domain(1))
	sees(t, one, "pg-1@kvm-1")
	for round := range 6 {
		n := c.nodes[round%len(c.nodes)]
		n.signal(syscall.SIGSTOP)
		for range 6 {
			one.has(domain(1), domain(2))
			time.Sleep(150 * time.Millisecond)
			one.has(domain(1))
			time.Sleep(150 * time.Millisecond)
		}
		sees(t, one, "pg-1@kvm-1")
		n.signal(syscall.SIGCONT)
		time.Sleep(500 * time.Millisecond)
		sees(t, one, "pg-1@kvm-1") // one that came back would stay: the agent takes it for gone
	}
}
