//go:build e2e

package stop

import (
	"encoding/binary"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
)

// The calls of a migration, by their numbers in libvirt's remote_protocol.x, at which a client is
// made to die.
const (
	perform3 = 305 // REMOTE_PROC_DOMAIN_MIGRATE_PERFORM3_PARAMS: the source sends the guest
	finish3  = 306 // REMOTE_PROC_DOMAIN_MIGRATE_FINISH3_PARAMS: the destination lets it run
)

// A proxy stands between a client and a daemon. It relays everything up to one call, which it holds
// for ever.
type proxy struct {
	address string
	listen  net.Listener
	daemon  net.Conn
	holding atomic.Bool
}

// proxy listens for one client of a daemon.
func (h *host) proxy(network, daemon string, procedure uint32) *proxy {
	address := "127.0.0.1:0"
	if network == "unix" {
		dir, err := os.MkdirTemp("/run", "proxy")
		if err != nil {
			h.Fatalf("%v", err)
		}
		address = filepath.Join(dir, "sock")
	}
	listen, err := net.Listen(network, address)
	if err != nil {
		h.Fatalf("%v", err)
	}
	p := &proxy{address: listen.Addr().String(), listen: listen}
	if p.daemon, err = net.Dial(network, daemon); err != nil {
		h.Fatalf("%v", err)
	}
	go func() {
		client, err := listen.Accept()
		if err != nil {
			return
		}
		go func() { _, _ = io.Copy(client, p.daemon) }()
		p.relay(client, procedure)
	}()
	return p
}

// relay sends the client's messages on, until one is the call to hold. A message begins with its
// length, which counts itself, and then has program, version and procedure, a big-endian word each.
func (p *proxy) relay(client io.Reader, procedure uint32) {
	for {
		head := make([]byte, 16)
		if _, err := io.ReadFull(client, head); err != nil {
			return
		}
		if binary.BigEndian.Uint32(head[12:]) == procedure {
			p.holding.Store(true)
			return
		}
		rest := int64(binary.BigEndian.Uint32(head)) - int64(len(head))
		if _, err := p.daemon.Write(head); err != nil {
			return
		}
		if _, err := io.CopyN(p.daemon, client, rest); err != nil {
			return
		}
	}
}

// isHolding reports whether the client has made the call.
func (p *proxy) isHolding() bool { return p.holding.Load() }

// close ends the connection to the daemon, as the end of the client would.
func (p *proxy) close() {
	p.listen.Close()
	p.daemon.Close()
}
