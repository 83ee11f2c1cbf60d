package agent

import (
	"net"
	"net/netip"
	"sync"
)

// The connections of the TCP listener, of clients that may not have shown yet who they are. Without
// a limit, they could use up the memory that the unit allows the agent, or its descriptors: hooks
// would wait for nothing meanwhile.
const (
	maxConnections   = 512
	maxOfOneNeighbor = 64
)

// A connLimit closes the connections that are too many, in all or from one neighbor.
type connLimit struct {
	net.Listener
	refused func()

	mu        sync.Mutex
	all       int
	neighbors map[netip.Prefix]int
}

func newConnLimit(l net.Listener, refused func()) *connLimit {
	return &connLimit{Listener: l, refused: refused, neighbors: map[netip.Prefix]int{}}
}

func (l *connLimit) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from := neighborOf(c)
		if l.enter(from) {
			return &countedConn{Conn: c, leave: sync.OnceFunc(func() { l.leave(from) })}, nil
		}
		_ = c.Close()
		l.refused()
	}
}

// neighborOf returns the network that a single client can have all addresses of: an address of
// IPv4, or the /64 of one of IPv6.
func neighborOf(c net.Conn) netip.Prefix {
	at, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return netip.Prefix{}
	}
	address := at.Addr().Unmap().WithZone("")
	p, _ := address.Prefix(min(address.BitLen(), 64))
	return p
}

func (l *connLimit) enter(from netip.Prefix) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all >= maxConnections || l.neighbors[from] >= maxOfOneNeighbor {
		return false
	}
	l.all++
	l.neighbors[from]++
	return true
}

func (l *connLimit) leave(from netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all--
	if l.neighbors[from]--; l.neighbors[from] == 0 {
		delete(l.neighbors, from)
	}
}

type countedConn struct {
	net.Conn
	leave func()
}

func (c *countedConn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
