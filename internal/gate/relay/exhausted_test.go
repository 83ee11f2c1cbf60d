package relay

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stopguard/stopguard/internal/gate/transport"
	"github.com/stopguard/stopguard/internal/gate/wire"
)

// limit sets how many descriptors this process may have, for as long as the test runs.
func limit(t *testing.T) func(n int) {
	t.Helper()
	var before unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &before))
	t.Cleanup(func() { must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &before)) })
	return func(n int) {
		must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(n), Max: before.Max}))
	}
}

// fillDescriptors opens descriptors until none below a limit is left but as many as are to be free.
func fillDescriptors(t *testing.T, free int) (release func()) {
	t.Helper()
	var taken []int
	for {
		d, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
		if err != nil {
			break
		}
		taken = append(taken, d)
	}
	transport.CloseAll(taken[:free])
	taken = taken[free:]
	return func() { transport.CloseAll(taken); taken = nil }
}

func TestOutOfDescriptorsTheGateNamesItselfAndRecovers(t *testing.T) {
	for _, tt := range []struct {
		why  string
		free int // descriptors that are left for the gate, once the client has its own
	}{
		{"the client cannot be accepted", 0},
		{"libvirtd cannot be connected to", 1},
		{"libvirtd's socket has but one descriptor", 2},
	} {
		t.Run(tt.why, func(t *testing.T) {
			s := newStage(t, nil)
			first, daemon := s.connect()
			untouched(t, first, daemon)

			setLimit := limit(t)
			setLimit(openFiles(t) + 8)
			sock, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			must(t, err)
			defer func() { _ = unix.Close(sock) }()
			release := fillDescriptors(t, tt.free)
			defer release()
			must(t, unix.Connect(sock, &unix.SockaddrUnix{Name: s.address("down").Name}))
			must(t, unix.SetsockoptTimeval(sock, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: int64(patience / time.Second)}))
			_, err = unix.Write(sock, opening.frame())
			must(t, err)
			answer := make([]byte, 4096)
			n, err := unix.Read(sock, answer)
			if err != nil || n < wire.HeaderSize {
				t.Fatalf("%d, %v", n, err)
			}
			e, err := wire.ReadError(answer[wire.HeaderSize:n])
			must(t, err)
			if !strings.HasPrefix(e.Message, "stopguard-gate is out of file descriptors: ") || !strings.Contains(e.Message, "too many open files; ") || !strings.HasSuffix(e.Message, "raise LimitNOFILE of stopguard-gate.service") {
				t.Errorf("%+v", e)
			}
			untouched(t, first, daemon)

			release()
			client := newEnd(t, s.dial(), wire.FromServer())
			client.say(t, opening)
			for { // libvirtd has seen connections that the gate could not use
				conn, err := s.daemon.AcceptUnix()
				must(t, err)
				daemon = newEnd(t, conn, wire.FromClient())
				if _, opened := <-daemon.messages; opened {
					break
				}
			}
			untouched(t, client, daemon)
		})
	}
}
