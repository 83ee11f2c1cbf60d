package transport

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// NoDescriptor is the number that stands for a missing descriptor.
const NoDescriptor = -1

// A Socket is one end of a connection that carries frames and descriptors. One goroutine may read
// from it, by [Pump], while others write.
type Socket struct {
	// Mutex must be held from the first byte of a frame to its last descriptor. Otherwise the bytes
	// of another writer would be taken for a part of the frame. [Socket.Send] locks it itself.
	sync.Mutex

	Pauser *Pauser // Pauser pauses the loop that reads.

	conn *net.UnixConn
	raw  syscall.RawConn
}

// queue is how many bytes a socket may hold that the other end has not read yet. The kernel gives
// twice as much, and at most twice what it is set to allow (net.core.wmem_max); each time that it
// is full costs both ends a wait.
const queue = 1 << 20

// New returns the socket of a connection, which belongs to the socket from then on. After an error
// the connection still is the caller's.
func New(conn *net.UnixConn) (*Socket, error) {
	_ = conn.SetWriteBuffer(queue) // it works without, but slower
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	return &Socket{Pauser: NewPauser(conn.SetReadDeadline), conn: conn, raw: raw}, nil
}

// ConnOf returns the connection of a descriptor, which it closes.
func ConnOf(descriptor int) (*net.UnixConn, error) {
	f := os.NewFile(uintptr(descriptor), "carried")
	if f == nil {
		return nil, os.ErrInvalid
	}
	defer f.Close()
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	u, ok := conn.(*net.UnixConn)
	if !ok {
		_ = conn.Close()
		return nil, fmt.Errorf("descriptor %d is no Unix socket; report this", descriptor)
	}
	return u, nil
}

// Descriptor returns the number of the socket's descriptor, which stays the socket's.
func (s *Socket) Descriptor() int {
	d := NoDescriptor
	_ = s.raw.Control(func(fd uintptr) { d = int(fd) })
	return d
}

// receive waits for bytes and returns them in a buffer, which the caller puts back, with the
// descriptors that came with them. One call of recvmsg never reads past a byte that brought
// descriptors.
func (s *Socket) receive() (b *buffer, n int, descriptors []int, err error) {
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
		CloseAll(descriptors)
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
			CloseAll(all)
			return nil, err
		}
		all = append(all, fds...)
	}
	return all, nil
}

// Write writes bytes of a frame. The caller holds the mutex.
func (s *Socket) Write(data []byte) error {
	_, err := s.conn.Write(data)
	return err
}

// Pass sends a descriptor, on a byte of its own as libvirt wants it, and closes it. The caller
// holds the mutex.
func (s *Socket) Pass(descriptor int) error {
	defer func() { _ = unix.Close(descriptor) }()
	_, _, err := s.conn.WriteMsgUnix([]byte{0}, unix.UnixRights(descriptor), nil)
	return err
}

// Send writes a whole frame with its descriptors, which it closes.
func (s *Socket) Send(frame []byte, descriptors []int) error {
	s.Lock()
	defer s.Unlock()
	err := s.Write(frame)
	for i, d := range descriptors {
		if err != nil {
			CloseAll(descriptors[i:])
			break
		}
		err = s.Pass(d)
	}
	return err
}

// HasHungUp reports whether the other side has hung up, even if there is still something to read
// from it.
func (s *Socket) HasHungUp() bool {
	hungUp := true
	_ = s.raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		_, err := unix.Poll(p, 0)
		hungUp = err == nil && p[0].Revents&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0
	})
	return hungUp
}

// AwaitHangUp waits until the other side has hung up, at most for the timeout. It drops what can
// still be read.
func (s *Socket) AwaitHangUp(timeout time.Duration) {
	_ = s.conn.SetReadDeadline(time.Now().Add(timeout))
	_, _ = io.Copy(io.Discard, s.conn)
}

// CloseWrite ends the direction to the other side. The other side can still be read from.
func (s *Socket) CloseWrite() error { return s.conn.CloseWrite() }

// Close ends both directions and every pause. It may be called several times.
func (s *Socket) Close() {
	_ = s.conn.Close()
	s.Pauser.End()
}

// CloseDescriptor closes a descriptor, unless it is [NoDescriptor].
func CloseDescriptor(d int) error {
	if d == NoDescriptor {
		return nil
	}
	return unix.Close(d)
}

// CloseAll closes descriptors.
func CloseAll(descriptors []int) {
	for _, d := range descriptors {
		_ = unix.Close(d)
	}
}
