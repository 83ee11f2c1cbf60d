package peer

import (
	"net"
	"os"
	"strings"
	"testing"
)

func TestAsRootLibvirtdSeesTheClient(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be others")
	}
	dir, err := os.MkdirTemp("/tmp", "sg")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o700)) // only root can reach it
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dir + "/up", Net: "unix"})
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	for range 50 {
		conn, err := DialAs(dir+"/up", 12345, 23456)
		must(t, err)
		server, err := l.AcceptUnix()
		must(t, err)
		who, err := Of(server)
		must(t, err)
		if who.UID != 12345 || who.GID != 23456 {
			t.Errorf("libvirtd sees %+v", who)
		}
		_, _ = conn.Close(), server.Close()
	}
	threads, err := os.ReadDir("/proc/self/task")
	must(t, err)
	for _, thread := range threads {
		data, err := os.ReadFile("/proc/self/task/" + thread.Name() + "/status")
		if os.IsNotExist(err) {
			continue
		}
		must(t, err)
		for _, want := range []string{"\nUid:\t0\t0\t0\t0\n", "\nGid:\t0\t0\t0\t0\n"} {
			if !strings.Contains(string(data), want) {
				t.Errorf("thread %s is not %q", thread.Name(), want)
			}
		}
	}
}

func TestAUserThatCannotBeTakenOnEndsTheConnection(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be others")
	}
	connected := false
	// The kernel takes this number for "leave it as it is", which is root.
	err := as(1<<32-1, 0, func() error { connected = true; return nil })
	if err == nil || connected {
		t.Errorf("somebody else than the client is taken on: %v", err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
