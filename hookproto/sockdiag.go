package hookproto

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// Constants of the kernel's uapi headers netlink.h, sock_diag.h and unix_diag.h, and TCP_LISTEN,
// which the kernel uses for Unix sockets too.
const (
	netlinkSockDiag   = 4
	sockDiagByFamily  = 20
	dumpInterrupted   = 0x10
	showName          = 0x01
	attributeName     = 0
	stateListen       = 10
	unixDiagRequest   = 24 // bytes
	unixDiagMessage   = 16
	receiveTime       = 200 * time.Millisecond
	dumpTime          = 500 * time.Millisecond
	receiveBuffer     = 1 << 16
	longestSocketPath = 107 // bytes: a socket cannot be bound to a longer path, and so cannot show
)

// monitorState describes a domain's monitor as the socket table shows it.
type monitorState struct {
	isKnown   bool            // the table could be read
	isOpen    bool            // QEMU listens on the monitor, or something is connected to it
	listening map[string]bool // the sockets of daemons in the table, which covers one network namespace
}

// monitor looks for the domain's monitor and for the socket of the daemon that holds it.
//
// It reads the table through netlink. In the text of /proc/net/unix any user can forge a line with
// an abstract socket whose name contains a newline.
func (h Host) monitor(path string, id int) (m monitorState) {
	m.listening = map[string]bool{}
	if path != "" {
		path = h.path(path)
	}
	if len(path) > longestSocketPath {
		return m
	}
	err := eachUnixSocket(func(s unixSocket) {
		switch {
		case s.state == stateListen && (strings.HasSuffix(s.path, "/libvirt-sock") || strings.HasSuffix(s.path, "/virtqemud-sock")):
			m.listening[s.path] = true
		case path != "" && s.path == path, isMonitor(s.path, id):
			// The status file may spell the path without a control character of the name. QEMU
			// listens until it closes the monitor: a daemon that was restarted has yet to connect.
			m.isOpen = true
		}
	})
	m.isKnown = err == nil
	return m
}

// isListening reports whether the daemon's socket is among the paths, which a gate or systemd may
// hold in its place.
func (h Host) isListening(d daemon, paths map[string]bool) bool {
	return d.pid > 0 && slices.ContainsFunc(runDirs, func(run string) bool { return paths[h.path(run+d.socketName())] })
}

// isMonitor matches on the id alone, because libvirt shortens the name in the path. A false match
// only makes a domain count as alive.
func isMonitor(path string, id int) bool {
	dir, ok := strings.CutSuffix(path, "/monitor.sock")
	return ok && strings.HasPrefix(dir[strings.LastIndexByte(dir, '/')+1:], "domain-"+strconv.Itoa(id)+"-")
}

type unixSocket struct {
	path  string
	state uint8
}

// eachUnixSocket visits every socket of this network namespace that is bound to a path. It fails,
// possibly after some visits, unless the kernel returned the table whole and unchanged.
func eachUnixSocket(visit func(unixSocket)) error {
	fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, netlinkSockDiag)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer func() { _ = syscall.Close(fd) }()
	timeout := syscall.NsecToTimeval(receiveTime.Nanoseconds())
	if err := syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &timeout); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	if err := syscall.Sendto(fd, dumpRequest(), 0, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}); err != nil {
		return os.NewSyscallError("sendto", err)
	}
	deadline := time.Now().Add(dumpTime)
	kept := receiveBuffers.Get().(*[receiveBuffer]byte)
	defer receiveBuffers.Put(kept)
	buf := kept[:]
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

func dumpRequest() []byte {
	b := make([]byte, syscall.NLMSG_HDRLEN+unixDiagRequest)
	native := binary.NativeEndian
	native.PutUint32(b[0:], uint32(len(b)))
	native.PutUint16(b[4:], sockDiagByFamily)
	native.PutUint16(b[6:], syscall.NLM_F_REQUEST|syscall.NLM_F_DUMP)
	request := b[syscall.NLMSG_HDRLEN:]
	request[0] = syscall.AF_UNIX
	native.PutUint32(request[4:], ^uint32(0)) // sockets in every state
	native.PutUint32(request[12:], showName)
	return b
}

// visitMessages reports whether the dump is complete.
func visitMessages(data []byte, visit func(unixSocket)) (done bool, err error) {
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

// parseUnixSocket returns false for a socket that is not a stream or is not bound to a path. An
// abstract name, which any user may choose, begins with a NUL.
func parseUnixSocket(data []byte) (unixSocket, bool) {
	if len(data) < unixDiagMessage || data[0] != syscall.AF_UNIX || data[1] != syscall.SOCK_STREAM {
		return unixSocket{}, false
	}
	s := unixSocket{state: data[2]}
	native := binary.NativeEndian
	const header = int(unsafe.Sizeof(syscall.NlAttr{}))
	for rest := data[unixDiagMessage:]; len(rest) >= header; {
		size := int(native.Uint16(rest))
		if size < header || size > len(rest) {
			return unixSocket{}, false
		}
		if native.Uint16(rest[2:]) == attributeName {
			s.path = string(bytes.TrimSuffix(rest[header:size], []byte{0}))
		}
		rest = rest[min((size+3)&^3, len(rest)):]
	}
	return s, s.path != "" && !strings.Contains(s.path, "\x00")
}
