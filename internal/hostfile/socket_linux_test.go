package hostfile_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stopguard/stopguard/internal/hostfile"
	"github.com/stopguard/stopguard/internal/testhost"
)

// Another user must not connect between the bind and a chmod, so the mode is watched with a umask
// that takes nothing away.
func TestOnlyTheOwnerReachesASocketFromItsBinding(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	path := filepath.Join(testhost.SocketDir(t), "socket")
	l, err := hostfile.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if info, err := os.Lstat(path); err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if mask := syscall.Umask(0); mask != 0 {
		t.Errorf("the umask is %#o", mask)
	}
	if _, err := hostfile.Listen(path); err == nil {
		t.Error("a second listener")
	}
}
