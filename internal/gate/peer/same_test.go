package peer

import (
	"net"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/stopguard/stopguard/internal/testhost"
)

// An order has a child connect as a user.
type order struct {
	Socket string
	UID    int
}

func TestMain(m *testing.M) {
	var o order
	if testhost.Ordered(&o) {
		if err := syscall.Setuid(o.UID); err != nil {
			panic(err)
		}
		c, err := net.Dial("unix", o.Socket)
		if err != nil {
			panic(err)
		}
		testhost.Ready()
		_ = c.Close()
		return
	}
	os.Exit(m.Run())
}

// The gate's unit has no right to send signals to other users' processes. It knows all the same
// that a client's process is still the one that connected, and so what to believe of it.
func TestAClientOfAnotherUserIsKnownWithoutTheRightToKillIt(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to be several users")
	}
	const uid = 61001
	path := filepath.Join(testhost.Root(t), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	testhost.OpenToAll(t, filepath.Dir(path))
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	testhost.Start(t, order{path, uid})
	conn, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	of := func(drop bool) (p Peer) {
		done := make(chan error, 1)
		go func() {
			runtime.LockOSThread() // and the thread ends with the goroutine
			if drop {
				if err := dropKill(); err != nil {
					done <- err
					return
				}
			}
			var err error
			p, err = Of(conn)
			done <- err
		}()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		return p
	}
	with, without := of(false), of(true)
	if without.UID != uid || with.Executable == "" || without.Unit != with.Unit || without.Executable != with.Executable || without.LoginUID != with.LoginUID {
		t.Errorf("with the right to kill it %+v, without %+v", with, without)
	}
}

// dropKill takes CAP_KILL from this thread.
func dropKill() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return err
	}
	sets[0].Effective &^= 1 << unix.CAP_KILL
	return unix.Capset(&header, &sets[0])
}
