package hosttest

import (
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stopguard/stopguard/internal/host"
	"github.com/stopguard/stopguard/internal/testhost"
)

// playedSource is the source of the fixtures' program. It is built, because its build information
// must name stopguard. It is small, because it is read, copied and started many times.
//
//go:embed testdata/played.go
var playedSource string

// playedHook returns the fixtures' program, which is built once.
var playedHook = sync.OnceValues(func() (string, error) {
	if played == "" {
		return "", errors.New("the package's TestMain does not call hosttest.Main")
	}
	return build(filepath.Join(played, "hook"), host.Module, "played", playedSource)
})

// played is the folder of the program in this run.
var played string

// Main runs the tests of a package that uses fixtures.
func Main(m *testing.M) {
	testhost.InMemory()
	folder, err := os.MkdirTemp("", "stopguard-played-")
	if err != nil {
		panic(err)
	}
	played = folder
	code := m.Run()
	_ = os.RemoveAll(folder)
	os.Exit(code)
}

// ForeignProgram builds a Go program that has nothing to do with stopguard.
func ForeignProgram(t *testing.T) string {
	t.Helper()
	return ProgramOf(t, "example.com/other", ".")
}

// ProgramOf builds a Go program that does nothing, as a package of a module.
func ProgramOf(t *testing.T, module, pkg string) string {
	t.Helper()
	file, err := build(filepath.Join(t.TempDir(), "other"), module, pkg, "package main\n\nfunc main() {}\n")
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// build builds a program of one file, as a package of a module, whose folder is left beside it.
func build(file, module, pkg, source string) (string, error) {
	folder := file + ".module"
	if err := os.MkdirAll(filepath.Join(folder, pkg), 0o700); err != nil {
		return "", err
	}
	for name, content := range map[string]string{"go.mod": "module " + module + "\n\ngo 1.26\n", pkg + "/main.go": source} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600); err != nil {
			return "", err
		}
	}
	cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", file, "./"+pkg)
	cmd.Dir = folder
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return file, os.Chmod(file, 0o755)
}
