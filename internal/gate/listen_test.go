package gate

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stopguard/stopguard/internal/testhost"
)

func TestASocketIsTakenOverOnlyFromTheDead(t *testing.T) {
	path := filepath.Join(testhost.SocketDir(t), "sock")

	first, err := listen(path, "")
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o666 {
		t.Errorf("the socket is %v: %v", info.Mode(), err)
	}
	if _, err := listen(path, ""); err == nil || !strings.Contains(err.Error(), "somebody listens on "+path+" already; ") {
		t.Errorf("it is taken from one who listens: %v", err)
	}
	first.SetUnlinkOnClose(false) // as when a gate is killed
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second, err := listen(path, "")
	if err != nil {
		t.Fatalf("it is not taken from the dead: %v", err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}

	if err := os.WriteFile(path, []byte("something else"), 0o600); err != nil {
		t.Fatal(err)
	}
	if l, err := listen(path, ""); err == nil {
		_ = l.Close()
		t.Error("a file that is no socket is taken away")
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "something else" {
		t.Errorf("%q, %v", data, err)
	}
	if _, err := net.Dial("unix", path); err == nil {
		t.Error("somebody listens")
	}
}
