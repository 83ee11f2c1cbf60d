package testhost

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
)

const orderVariable = "STOPGUARD_TEST_ORDER"

// A Child is the test's own program as another process, which carries out an order.
type Child struct {
	cmd *exec.Cmd
	in  io.Closer
	out *bufio.Reader
}

// Start starts a child with an order, which is passed as JSON. The child is killed when the test
// ends.
func Start(t testing.TB, order any) *Child {
	t.Helper()
	text, err := json.Marshal(order)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &Child{cmd: exec.Command(self)}
	c.cmd.Env = append(os.Environ(), orderVariable+"="+string(text))
	c.cmd.Stderr = os.Stderr
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.out = bufio.NewReader(out)
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Kill)
	return c
}

// Ordered reports whether this process is a child, and decodes its order. TestMain calls it.
func Ordered(order any) bool {
	text, ordered := os.LookupEnv(orderVariable)
	if !ordered {
		return false
	}
	if err := json.Unmarshal([]byte(text), order); err != nil {
		panic(err)
	}
	return true
}

// Ready makes a child wait until it is released.
func Ready() {
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// Release waits until all children are ready, and releases them at once.
func Release(t testing.TB, children ...*Child) {
	t.Helper()
	for _, c := range children {
		if line := c.Says(t); line != "ready" {
			t.Fatalf("a child says %q", line)
		}
	}
	for _, c := range children {
		_ = c.in.Close()
	}
}

// Says returns the next line that the child prints; "" at the end of its output.
func (c *Child) Says(t testing.TB) string {
	t.Helper()
	line, err := c.out.ReadString('\n')
	if err != nil && err != io.EOF {
		t.Fatal(err)
	}
	return strings.TrimSuffix(line, "\n")
}

// PID returns the child's process ID.
func (c *Child) PID() int { return c.cmd.Process.Pid }

// Kill kills the child. Its output can no longer be read.
func (c *Child) Kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}
