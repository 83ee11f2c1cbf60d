package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/stopguard/stopguard/internal/testhost"
)

// A stage is a host in a folder of its own: the hook as it is installed, libvirt's state of a
// domain whose process lives, and a process that passes for it. Both sides of a row are run on it.
type stage struct {
	root             string // STOPGUARD_ROOT
	hook             string // the shell front; the program that it runs is beside it
	maxrss           string
	marked, unmarked []byte // the domain's XML, with a protection mark and without
	ended            []byte // the XML of a domain without a process: none here has its name, its UUID or its number
	pid              int    // of the domain's process
	closers          []func()
}

// The domain of the capture.
const (
	ended   = "ended-01" // the name of the domain without a process
	guest   = "pg-primary-01"
	uuid    = "d19e7151-4c02-4aa7-a443-59213be70aba"
	capture = "testdata/captures/pg-primary-01/stop/stdin.xml"
)

var mark = regexp.MustCompile(`\n *<p:protection [^>]*/>`)

// newStage builds the programs and makes the host. It is the machine's own file system that both
// sides log to.
func newStage() (_ *stage, err error) {
	s := &stage{}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if os.Geteuid() != 0 {
		return nil, errors.New("it must run as root: the installed hook lets every other user's stop go")
	}
	if s.root, err = os.MkdirTemp("", "sgbench"); err != nil {
		return nil, err
	}
	s.closers = append(s.closers, func() { _ = os.RemoveAll(s.root) })
	if err := os.Chmod(s.root, 0o755); err != nil {
		return nil, err
	}
	if s.marked, err = os.ReadFile(capture); err != nil {
		return nil, fmt.Errorf("%w; run it in the repository's root folder", err)
	}
	if s.unmarked = mark.ReplaceAll(s.marked, nil); len(s.unmarked) == len(s.marked) {
		return nil, fmt.Errorf("%s has no mark", capture)
	}
	s.ended = []byte(strings.NewReplacer(guest, ended, uuid, "00000000-0000-4000-8000-000000000001", "id='33'", "id='2147480003'").Replace(string(s.unmarked)))
	if s.hook, err = s.install("hook", "./cmd/stopguard-hook"); err != nil {
		return nil, err
	}
	if s.maxrss, err = s.build("maxrss", "./bench/maxrss"); err != nil {
		return nil, err
	}
	return s, s.start()
}

func (s *stage) close() {
	for i := len(s.closers) - 1; i >= 0; i-- {
		s.closers[i]()
	}
}

// build builds a program as for a host. It copies the program as an installation does: a file
// written by the linker starts more slowly for as long as it is in the page cache.
func (s *stage) build(name, dir string) (string, error) {
	built, program := filepath.Join(s.root, "built", name), filepath.Join(s.root, "usr", name)
	cmd := exec.Command("go", "build", "-trimpath", "-o", built, dir)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build %s: %w: %s", dir, err, out)
	}
	content, err := os.ReadFile(built)
	if err != nil {
		return "", err
	}
	return program, errors.Join(os.MkdirAll(filepath.Dir(program), 0o755), os.WriteFile(program, content, 0o755))
}

// install builds a program and puts the shell front before it.
func (s *stage) install(name, dir string) (string, error) {
	program, err := s.build(name, dir)
	if err != nil {
		return "", err
	}
	const line = "\nprogram=/usr/libexec/stopguard-hook\n"
	script, err := os.ReadFile("hookproto/front.sh")
	if err != nil {
		return "", err
	}
	if strings.Count(string(script), line) != 1 {
		return "", errors.New("hookproto/front.sh names no program")
	}
	return program + ".sh", os.WriteFile(program+".sh", []byte(strings.Replace(string(script), line, "\nprogram="+program+"\n", 1)), 0o755)
}

// start makes the domain live: its process, libvirt's files about it, its monitor, and the daemon's
// socket.
func (s *stage) start() error {
	process := exec.Command("sh", "-c", "read line", "qemu-system-x86_64", "-name", "guest="+guest, "-uuid", uuid)
	stdin, err := process.StdinPipe()
	if err != nil {
		return err
	}
	if err := process.Start(); err != nil {
		return err
	}
	s.pid = process.Process.Pid
	s.closers = append(s.closers, func() { _ = stdin.Close(); _ = process.Wait() })
	const monitor = "/var/lib/libvirt/qemu/domain-33-" + guest + "/monitor.sock"
	for _, path := range []string{"/run/libvirt/libvirt-sock", monitor} {
		if err := s.listen(path); err != nil {
			return err
		}
	}
	connection, err := net.Dial("unix", s.path(monitor))
	if err != nil {
		return err
	}
	s.closers = append(s.closers, func() { _ = connection.Close() })
	status := fmt.Sprintf("<domstatus state='running' reason='booted' pid='%d'>\n  <monitor path='%s' type='unix'/>\n%s</domstatus>\n",
		s.pid, monitor, s.unmarked)
	// A missing process counts only where libvirt's daemon is visible.
	daemon, err := testhost.StartDaemon()
	if err != nil {
		return err
	}
	return errors.Join(
		s.put("/run/libvirt/qemu/"+guest+".pid", fmt.Sprintln(s.pid)),
		s.put("/run/libvirt/qemu/"+guest+".xml", status),
		s.put("/run/libvirtd.pid", fmt.Sprintln(daemon)),
	)
}

func (s *stage) listen(path string) error {
	if err := os.MkdirAll(filepath.Dir(s.path(path)), 0o755); err != nil {
		return err
	}
	listener, err := net.Listen("unix", s.path(path))
	if err == nil {
		s.closers = append(s.closers, func() { _ = listener.Close() })
	}
	return err
}

func (s *stage) path(path string) string { return filepath.Join(s.root, path) }

func (s *stage) put(path, content string) error {
	if err := os.MkdirAll(filepath.Dir(s.path(path)), 0o755); err != nil {
		return err
	}
	return os.WriteFile(s.path(path), []byte(content), 0o644)
}
