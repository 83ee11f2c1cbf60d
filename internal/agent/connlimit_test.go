package agent

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// A client shows who it is once it is connected. Thousands of connections of others, each with a
// TLS session, would take the memory that the agent may use.
func TestConnectionsOfStrangersAreBounded(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	refused := make(chan struct{}, 1)
	accepted := make(chan net.Conn, 1)
	go func() {
		limited := newConnLimit(l, func() { refused <- struct{}{} })
		for {
			c, err := limited.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	var served []net.Conn
	connect := func(from string) (isServed bool) {
		t.Helper()
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: time.Minute}
		c, err := dialer.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		select {
		case c := <-accepted:
			served = append(served, c)
			return true
		case <-refused:
			return false
		case <-time.After(time.Minute):
			t.Fatal("neither served nor refused")
			return false
		}
	}
	for range maxOfOneNeighbor {
		if !connect("127.0.0.1") {
			t.Fatal("a neighbor has too few")
		}
	}
	if connect("127.0.0.1") {
		t.Error("a neighbor has one more")
	}
	for n := 2; len(served) < maxConnections; n++ {
		for range maxOfOneNeighbor {
			if !connect(fmt.Sprintf("127.0.0.%d", n)) {
				t.Fatalf("neighbor %d does not get in behind others", n)
			}
		}
	}
	if connect("127.0.1.1") {
		t.Error("there is one more in all")
	}
	for _, c := range served {
		_ = c.Close()
		_ = c.Close() // gives its place back once
	}
	served = nil
	for range maxOfOneNeighbor {
		if !connect("127.0.0.1") {
			t.Fatal("a place is not free again")
		}
	}
	if connect("127.0.0.1") {
		t.Error("a place was given back twice")
	}
}

func TestTheListenerOfOtherHostsIsLimited(t *testing.T) {
	h := newHost(t, "{}")
	h.certificates()
	address := freePort(t)
	h.write("/etc/stopguard/agent.yaml", fmt.Sprintf("stopguard: {listen: {address: %q, certificate: %q, key: %q, client_ca: %q}}",
		address, h.path("agent.crt"), h.path("agent.key"), h.path("ca.pem")))
	a := h.start()
	h.eventually("a connection is refused, and counted", func() error { // a slow machine may have closed the first ones
		for range maxOfOneNeighbor + 1 {
			c, err := net.Dial("tcp", address)
			if err != nil {
				return err
			}
			defer c.Close()
		}
		_, body, err := a.get("/metrics")
		if err == nil && !strings.Contains(body, `stopguard_requests_refused_total{code="connection"} `) || strings.Contains(body, `{code="connection"} 0`) {
			err = errors.New("none is")
		}
		return err
	})
}

// Otherwise a prober would hold its place for as long as it likes.
func TestAStrangersConnectionIsClosedAfterItsAnswer(t *testing.T) {
	h := newHost(t, "{}")
	ca, _ := h.certificates()
	address := freePort(t)
	h.write("/etc/stopguard/agent.yaml", fmt.Sprintf("stopguard: {listen: {address: %q, certificate: %q, key: %q, client_ca: %q}}",
		address, h.path("agent.crt"), h.path("agent.key"), h.path("ca.pem")))
	h.start()
	for _, path := range []string{"/health", "/metrics"} {
		c, err := tls.Dial("tcp", address, &tls.Config{RootCAs: ca, ServerName: "127.0.0.1"})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: agent\r\n\r\n", path); err != nil {
			t.Fatal(err)
		}
		var answer strings.Builder
		for part := make([]byte, 4096); ; {
			n, err := c.Read(part)
			answer.Write(part[:n])
			if err, isLate := errors.AsType[net.Error](err); isLate && err.Timeout() {
				t.Fatalf("%s: it stays open: %q", path, answer.String())
			}
			if err != nil {
				break
			}
		}
		if !strings.HasPrefix(answer.String(), "HTTP/1.1 ") {
			t.Errorf("%s: %q", path, answer.String())
		}
	}
}

func TestNeighborOf(t *testing.T) {
	for _, tt := range []struct{ why, address, want string }{
		{"a host with one address", "192.0.2.7:80", "192.0.2.7/32"},
		{"the same, at a listener of both", "[::ffff:192.0.2.7]:80", "192.0.2.7/32"},
		{"a host has all addresses of its network", "[2001:db8:1:2:3:4:5:6]:80", "2001:db8:1:2::/64"},
		{"a link's address", "[fe80::1%lo]:80", "fe80::/64"},
	} {
		at := netip.MustParseAddrPort(tt.address)
		if got := neighborOf(addressed{addr: net.TCPAddrFromAddrPort(at)}); got.String() != tt.want {
			t.Errorf("%s: %s: %s", tt.why, tt.address, got)
		}
	}
}

type addressed struct {
	net.Conn
	addr net.Addr
}

func (a addressed) RemoteAddr() net.Addr { return a.addr }
