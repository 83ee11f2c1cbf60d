//go:build e2e

package main

import (
	"bufio"
	"fmt"
	"io"
	"net"

	"github.com/stopguard/stopguard/internal/gate/call"
	"github.com/stopguard/stopguard/internal/gate/wire"
)

// The procedures that clients call.
const (
	connectOpen   = 1
	getXML        = 14
	setAutostart  = 29
	suspend       = 34
	authList      = 66
	getLibVersion = 157
)

// A client sends calls to libvirtd as libvirt's library does, without the library's own
// bookkeeping. It makes one call at a time.
type client struct {
	net.Conn
	in     *bufio.Reader
	serial uint32
}

// connect opens a connection to the hypervisor.
func connect(path string) (*client, error) {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return nil, err
	}
	c := &client{Conn: conn, in: bufio.NewReaderSize(conn, 1<<10)}
	uri := wire.AppendString(wire.AppendUint32(nil, 1), "qemu:///system")
	for _, step := range []struct {
		procedure uint32
		args      []byte
	}{{authList, nil}, {connectOpen, wire.AppendUint32(uri, 0)}} {
		if err := c.call(step.procedure, step.args); err != nil {
			_ = conn.Close()
			return nil, err
		}
	}
	return c, nil
}

// call makes a call and waits for its answer. A refusal of libvirtd or of the gate is a
// *wire.Error.
func (c *client) call(procedure uint32, args []byte) error {
	c.serial++
	h := wire.Header{Program: call.Remote, Version: 1, Procedure: procedure, Serial: c.serial}
	if _, err := c.Write(wire.Frame(h, args)); err != nil {
		return err
	}
	head := make([]byte, wire.HeaderSize)
	if _, err := io.ReadFull(c.in, head); err != nil {
		return err
	}
	got := wire.ReadHeader(head)
	body := make([]byte, got.Length-wire.HeaderSize)
	if _, err := io.ReadFull(c.in, body); err != nil {
		return err
	}
	if got.Serial != c.serial || got.Procedure != procedure {
		return fmt.Errorf("call %d of procedure %d is answered by %+v", c.serial, procedure, got)
	}
	if got.Status == wire.OK {
		return nil
	}
	e, err := wire.ReadError(body)
	if err != nil {
		return err
	}
	return e
}

// about is a call's arguments: a domain, and numbers.
func about(uuid string, numbers ...uint32) []byte {
	args, err := wire.AppendDomain(nil, "", uuid)
	if err != nil {
		panic(err)
	}
	for _, n := range numbers {
		args = wire.AppendUint32(args, n)
	}
	return args
}
