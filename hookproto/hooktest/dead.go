package hooktest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/stopguard/stopguard/hookproto"
)

// letsTheDeadGo runs stops of each captured domain on two hosts of the kit's own: one on which the
// domain is dead, and one that is shutting down. Both must be allowed, even if the hook's policy
// refuses the domain.
func (c contract) letsTheDeadGo(t tester, p program) {
	for _, dir := range capturedDomains {
		args, xml := capturedStop(dir)
		ask := call{args: args, stdin: stdin{data: xml}}
		t.Run(fmt.Sprintf("a stop of %.40q is let go, since it is dead", dir), func(t tester) {
			root, remove := newRoot(t)
			defer remove()
			defer die(t, root, args[0], xml)()
			c.mustAllow(t, p.withRoot(root), ask, "there is nothing left to protect, and a refusal leaves the domain half stopped for ever")
		})
		t.Run(fmt.Sprintf("a stop of %.40q is let go, since its host shuts down", dir), func(t tester) {
			root, remove := newRoot(t)
			defer remove()
			write(t, filepath.Join(root, "run/stopguard/shutting-down"), "")
			c.mustAllow(t, p.withRoot(root), ask, "a refusal holds the shutdown up until the power is cut")
		})
	}
}

func (c contract) mustAllow(t tester, p program, ask call, why string) {
	t.Helper()
	c.hook = p
	if r := c.answered(t, ask); r.code != hookproto.ExitAllow && !r.late {
		t.Errorf("%v: %s, want 0: %s; put a rule of its own into stopguard.Config.Rules, not around the handler; it prints %.200q", ask, r.status(), why, r.stderr)
	}
}

// withRoot returns the program with its host's files under root.
func (p program) withRoot(root string) program {
	p.env = append(p.env[:len(p.env):len(p.env)], "STOPGUARD_ROOT="+root)
	return p
}

func newRoot(t tester) (root string, remove func()) {
	t.Helper()
	root, err := os.MkdirTemp("", "hooktest")
	if err != nil {
		t.Fatalf("there is no folder for a host: %v", err)
	}
	return root, func() { _ = os.RemoveAll(root) }
}

// die writes the state of a domain whose guest is off and whose process is a zombie. The returned
// function waits for the process.
func die(t tester, root, name string, xml []byte) (reap func()) {
	t.Helper()
	process := exec.Command("/bin/sh", "-c", "exit 0")
	if err := process.Start(); err != nil {
		t.Fatalf("there is no process to die: %v", err)
	}
	waitExited(process.Process.Pid)
	pid := strconv.Itoa(process.Process.Pid)
	state := filepath.Join(root, "run/libvirt/qemu", name)
	status := strings.TrimSpace(string(xml))
	write(t, state+".pid", pid)
	write(t, state+".xml", "<domstatus state='shutdown' reason='unknown' pid='"+pid+"'>"+status+"</domstatus>")
	return func() { _ = process.Wait() }
}

func write(t tester, file, content string) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(file), 0o755)
	if err == nil {
		err = os.WriteFile(file, []byte(content), 0o644)
	}
	if err != nil {
		t.Fatalf("the host cannot be made: %v", err)
	}
}
