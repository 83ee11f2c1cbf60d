package hookproto

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// Constants of the kernel's uapi headers netlink.h, sock_diag.h and unix_diag.h, and TCP_LISTEN,
// which the kernel uses for Unix sockets too.
const (
	netlinkSockDiag  = 4
	sockDiagByFamily = 20
	dumpInterrupted  = 0x10
	showName         = 0x01
	showPeer         = 0x04
	attributeName    = 0
	attributePeer    = 2
	stateListen      = 10
	unixDiagRequest  = 24 // bytes
	unixDiagMessage  = 16
	receiveTime      = 200 * time.Millisecond
	dumpTime         = 500 * time.Millisecond
	receiveBuffer    = 1 << 16
)

// longestSocketPath is the length in bytes beyond which a socket cannot be bound to a path, and so
// cannot be in the table.
const longestSocketPath = 107

// A UnixSocket is a stream socket in the kernel's table of this network namespace.
//
// The table is read through netlink: in the text of /proc/net/unix any user can forge a line with
// an abstract socket whose name contains a newline, and it does not have peers.
type UnixSocket struct {
	Path      string // "" if it is not bound to a path; an abstract name counts as none
	Inode     uint32
	Peer      uint32 // the inode of the other end; 0 if there is none or it is not accepted yet, and if peers are not read
	Listening bool
}

// namedUnixSockets visits the sockets that are bound to a path. It fails, possibly after some
// visits, unless the kernel returned the table whole and unchanged.
func namedUnixSockets(visit func(UnixSocket)) error {
	return dumpUnixSockets(showName, func(s UnixSocket) {
		if s.Path != "" {
			visit(s)
		}
	})
}

// UnixSockets visits every socket, with its peer. It fails, possibly after some visits, unless the
// kernel returned the table whole and unchanged.
func UnixSockets(visit func(UnixSocket)) error { return dumpUnixSockets(showName|showPeer, visit) }

func dumpUnixSockets(show uint32, visit func(UnixSocket)) error {
	fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, netlinkSockDiag)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer func() { _ = syscall.Close(fd) }()
	timeout := syscall.NsecToTimeval(receiveTime.Nanoseconds())
	if err := syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &timeout); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	if err := syscall.Sendto(fd, dumpRequest(show), 0, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}); err != nil {
		return os.NewSyscallError("sendto", err)
	}
	deadline := time.Now().Add(dumpTime)
	pooled := receiveBuffers.Get().(*[receiveBuffer]byte)
	defer receiveBuffers.Put(pooled)
	buf := pooled[:]
	for time.Now().Before(deadline) {
		n, from, err := syscall.Recvfrom(fd, buf, syscall.MSG_TRUNC)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return os.NewSyscallError("recvfrom", err)
		}
		if n > len(buf) {
			return errors.New("a part of the socket table was cut off")
		}
		if kernel, ok := from.(*syscall.SockaddrNetlink); !ok || kernel.Pid != 0 {
			continue
		}
		if done, err := visitMessages(buf[:n], visit); done || err != nil {
			return err
		}
	}
	return errors.New("the socket table did not end")
}

var receiveBuffers = sync.Pool{New: func() any { return new([receiveBuffer]byte) }}

func dumpRequest(show uint32) []byte {
	b := make([]byte, syscall.NLMSG_HDRLEN+unixDiagRequest)
	native := binary.NativeEndian
	native.PutUint32(b[0:], uint32(len(b)))
	native.PutUint16(b[4:], sockDiagByFamily)
	native.PutUint16(b[6:], syscall.NLM_F_REQUEST|syscall.NLM_F_DUMP)
	request := b[syscall.NLMSG_HDRLEN:]
	request[0] = syscall.AF_UNIX
	native.PutUint32(request[4:], ^uint32(0)) // sockets in every state
	native.PutUint32(request[12:], show)
	return b
}

// visitMessages reports whether the dump is complete.
func visitMessages(data []byte, visit func(UnixSocket)) (done bool, err error) {
	messages, err := syscall.ParseNetlinkMessage(data)
	if err != nil {
		return false, err
	}
	for _, m := range messages {
		if m.Header.Flags&dumpInterrupted != 0 {
			return false, errors.New("the socket table changed while it was read")
		}
		switch m.Header.Type {
		case syscall.NLMSG_DONE:
			if len(m.Data) >= 4 && binary.NativeEndian.Uint32(m.Data) != 0 {
				return false, errors.New("the kernel broke off the socket table")
			}
			return true, nil
		case syscall.NLMSG_ERROR:
			return false, errors.New("the kernel gives no socket table")
		case sockDiagByFamily:
			if s, ok := parseUnixSocket(m.Data); ok {
				visit(s)
			}
		}
	}
	return false, nil
}

// parseUnixSocket returns false for a socket that is not a stream, and for a torn message. An
// abstract name, which any user may choose, begins with a NUL.
func parseUnixSocket(data []byte) (UnixSocket, bool) {
	if len(data) < unixDiagMessage || data[0] != syscall.AF_UNIX || data[1] != syscall.SOCK_STREAM {
		return UnixSocket{}, false
	}
	native := binary.NativeEndian
	s := UnixSocket{Listening: data[2] == stateListen, Inode: native.Uint32(data[4:])}
	const header = int(unsafe.Sizeof(syscall.NlAttr{}))
	for rest := data[unixDiagMessage:]; len(rest) >= header; {
		size := int(native.Uint16(rest))
		if size < header || size > len(rest) {
			return UnixSocket{}, false
		}
		switch value := rest[header:size]; native.Uint16(rest[2:]) {
		case attributeName:
			if name := string(bytes.TrimSuffix(value, []byte{0})); !strings.Contains(name, "\x00") {
				s.Path = name
			}
		case attributePeer:
			if len(value) >= 4 {
				s.Peer = native.Uint32(value)
			}
		}
		rest = rest[min((size+3)&^3, len(rest)):]
	}
	return s, true
}
