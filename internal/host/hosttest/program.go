package hosttest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// The test binary is a hook program too, and the gate's, for it is an ELF of this machine that is
// made with stopguard.
func init() {
	isHook := len(os.Args) == 5 && os.Args[1] == "stopguard-doctor"
	isGate := len(os.Args) == 2 && os.Args[1] == "-check"
	if !isHook && !isGate {
		return
	}
	does, _ := os.ReadFile(os.Args[0] + ".does")
	switch string(does) {
	case "speak":
		fmt.Println("\x1b[2Jhello")
	case "fail":
		os.Exit(3)
	case "hang":
		time.Sleep(time.Minute)
	}
	os.Exit(0)
}

// playedHook is the program that patients have: a copy of the test binary, made once.
var playedHook = sync.OnceValues(func() (string, error) {
	if played == "" {
		return "", errors.New("the package's TestMain does not call hosttest.Main")
	}
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	content, err := os.ReadFile(self)
	if err != nil {
		return "", err
	}
	file := filepath.Join(played, "hook")
	return file, errors.Join(os.WriteFile(file, content, 0o700), os.Chmod(file, 0o755))
})

// played is a folder of this run.
var played string

// Main runs the tests of a package that uses fixtures.
func Main(m *testing.M) {
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
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, pkg), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"go.mod": "module " + module + "\n\ngo 1.26\n", pkg + "/main.go": "package main\n\nfunc main() {}\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("go", "build", "-o", "other", "./"+pkg)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return filepath.Join(dir, "other")
}
