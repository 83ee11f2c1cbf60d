package testhost

import (
	"fmt"
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
}

// Build builds a program, without the race detector. env is added to the environment of go.
//
// Linking a program takes a second, and go run keeps the linked program in Go's cache, unlike go
// build: so it is linked once for all packages.
func Build(source, file string, env ...string) error {
	cmd := exec.Command("go", "run", "-exec", "cp", source, file)
	cmd.Env = append(os.Environ(), env...)
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s cannot be built: %w\n%s", source, err, output)
	}
	return nil
}

// File returns the path of the program, in a folder that every user can read.
func (p *Program) File(t testing.TB) string {
	t.Helper()
	p.once.Do(func() {
		if p.folder, p.err = os.MkdirTemp("/tmp", "stopguard"); p.err != nil {
			return
		}
		if p.err = os.Chmod(p.folder, 0o755); p.err == nil {
			p.err = Build(p.Source, p.file())
		}
	})
	if p.err != nil {
		t.Fatal(p.err)
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
