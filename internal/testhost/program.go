package testhost

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// A Program is a program of this module that tests run as a process. It is built once for all tests
// of a package, without the race detector, which changes its memory and time.
type Program struct {
	Source string // the folder of its main package

	once   sync.Once
	folder string
	err    error
	output []byte
}

// File returns the path of the program, in a folder that every user can read.
func (p *Program) File(t testing.TB) string {
	t.Helper()
	p.once.Do(func() {
		if p.folder, p.err = os.MkdirTemp("/tmp", "stopguard"); p.err != nil {
			return
		}
		if p.err = os.Chmod(p.folder, 0o755); p.err == nil {
			p.output, p.err = exec.Command("go", "build", "-o", p.file(), p.Source).CombinedOutput()
		}
	})
	if p.err != nil {
		t.Fatalf("%v\n%s", p.err, p.output)
	}
	return p.file()
}

func (p *Program) file() string { return filepath.Join(p.folder, "hook") }

// Remove removes the program. TestMain calls it at its end.
func (p *Program) Remove() {
	if p.folder != "" {
		_ = os.RemoveAll(p.folder)
	}
}
