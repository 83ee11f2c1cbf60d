//go:build e2e

package fleet

import (
	"net"
	"strings"
	"testing"
	"time"
)

// pass returns an endpoint at an address of this host that passes on to another one: what clients
// send by up, and what comes back by down.
func pass(t testing.TB, address, endpoint string, up, down func(to, from net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", address+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", strings.TrimPrefix(endpoint, "https://"))
			if err != nil {
				_ = client.Close()
				continue
			}
			go up(server, client)
			go down(client, server)
		}
	}()
	return "https://" + l.Addr().String()
}

// after returns a function that passes on what it reads after some time.
func after(wait time.Duration) func(to, from net.Conn) {
	return func(to, from net.Conn) {
		defer to.Close()
		buffer := make([]byte, 64<<10)
		for {
			n, err := from.Read(buffer)
			time.Sleep(wait)
			if _, failed := to.Write(buffer[:n]); err != nil || failed != nil {
				return
			}
		}
	}
}
