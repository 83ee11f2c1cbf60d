package relay

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A socket is one end of a connection that carries frames and descriptors.
type socket struct {
	conn *net.UnixConn
	raw  syscall.RawConn

	// writing is held from the first byte of a frame to its last descriptor: what others write
	// would be taken for a part of it.
	writing sync.Mutex

	pauser *pauser // of who reads from it
}

// queue is what a socket may hold that the other end has not read yet, in bytes. The kernel gives
// twice as much, and at most twice what it is set to allow (net.core.wmem_max); each time that it
// is full costs both ends a wait.
const queue = 1 << 20

func newSocket(conn *net.UnixConn) (*socket, error) {
	_ = conn.SetWriteBuffer(queue) // it works without, but slower
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	return &socket{conn: conn, raw: raw, pauser: newPauser(conn.SetReadDeadline)}, nil
}

// descriptor returns the number of the socket's descriptor, which stays the socket's.
func (s *socket) descriptor() int {
	d := noDescriptor
	_ = s.raw.Control(func(fd uintptr) { d = int(fd) })
	return d
}

// receive waits for bytes and gives them in a buffer, which the caller puts back, with the
// descriptors that came with them. One call of recvmsg never reads past a byte that brought
// descriptors.
func (s *socket) receive() (b *buffer, n int, descriptors []int, err error) {
	var control int
	var flags int
	waitErr := s.raw.Read(func(fd uintptr) bool {
		b = buffers.Get().(*buffer)
		for {
			n, control, flags, _, err = unix.Recvmsg(int(fd), b.data[:], b.control[:], unix.MSG_CMSG_CLOEXEC)
			if err != unix.EINTR {
				break
			}
		}
		if err == unix.EAGAIN {
			buffers.Put(b)
			b = nil
			return false
		}
		return true
	})
	if waitErr != nil {
		err = waitErr // the previous error only means that nothing had arrived yet
	}
	if err == nil && control > 0 {
		descriptors, err = rights(b.control[:control])
		if err == nil && flags&unix.MSG_CTRUNC != 0 {
			err = errors.New("descriptors were lost on their way; raise the limit of open files")
		}
	}
	if err == nil && n == 0 {
		err = io.EOF
	}
	if err != nil {
		closeAll(descriptors)
		if b != nil {
			buffers.Put(b)
		}
		return nil, 0, nil, err
	}
	return b, n, descriptors, nil
}

func rights(control []byte) ([]int, error) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return nil, err
	}
	var all []int
	for _, m := range messages {
		if m.Header.Level != unix.SOL_SOCKET || m.Header.Type != unix.SCM_RIGHTS {
			continue
		}
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			closeAll(all)
			return nil, err
		}
		all = append(all, fds...)
	}
	return all, nil
}

// write writes bytes of a frame. The caller holds writing.
func (s *socket) write(data []byte) error {
	_, err := s.conn.Write(data)
	return err
}

// pass sends a descriptor, on a byte of its own as libvirt wants it, and closes it. The caller
// holds writing.
func (s *socket) pass(descriptor int) error {
	defer func() { _ = unix.Close(descriptor) }()
	_, _, err := s.conn.WriteMsgUnix([]byte{0}, unix.UnixRights(descriptor), nil)
	return err
}

// send writes a whole frame with its descriptors, which it closes.
func (s *socket) send(frame []byte, descriptors []int) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	err := s.write(frame)
	for i, d := range descriptors {
		if err != nil {
			closeAll(descriptors[i:])
			break
		}
		err = s.pass(d)
	}
	return err
}

// gone reports whether the other side has hung up, even if there is still something to read from
// it.
func (s *socket) gone() bool {
	gone := true
	_ = s.raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		_, err := unix.Poll(p, 0)
		gone = err == nil && p[0].Revents&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0
	})
	return gone
}

func closeDescriptor(d int) error {
	if d == noDescriptor {
		return nil
	}
	return unix.Close(d)
}

func closeAll(descriptors []int) {
	for _, d := range descriptors {
		_ = unix.Close(d)
	}
}
