package tool

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal gives a real one, and what has been written to it once it is closed.
func terminal(t *testing.T) (*os.File, func() string) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip("no terminal is to be had: ", err)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Skip("no terminal is to be had: ", err)
	}
	f, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no terminal is to be had: ", err)
	}
	read := make(chan string, 1)
	go func() {
		text, _ := io.ReadAll(master) // ends with an error when nobody has the terminal any more
		read <- string(text)
	}()
	return f, func() string {
		_ = f.Close()
		defer func() { _ = master.Close() }()
		return <-read
	}
}

func TestColourIsForTerminalsOnly(t *testing.T) {
	s := newStage(t)
	s.run("pg", uuid1, farMark)
	for name, tt := range map[string]struct {
		noColor string
		want    bool
	}{"wanted": {"", true}, "NO_COLOR": {"1", false}} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("NO_COLOR", tt.noColor)
			f, written := terminal(t)
			Run(context.Background(), []string{"check"}, strings.NewReader(""), f, io.Discard)
			text := written()
			if !strings.Contains(text, "pg") || strings.Contains(text, "\x1b[33mveto \x1b[0m") != tt.want || !tt.want && strings.Contains(text, "\x1b") {
				t.Errorf("got %q", text)
			}
		})
	}
	if got := s.tool("check"); strings.Contains(got.Stdout, "\x1b") {
		t.Errorf("a file gets %q", got.Stdout)
	}
}

func TestProgressIsForTerminalsOnly(t *testing.T) {
	work := func(w io.Writer) {
		p := progressFor(w)
		for i := range 1000 {
			p.show("checking", i+1, 1000)
		}
		p.end()
	}
	var file bytes.Buffer
	if work(&file); file.Len() > 0 {
		t.Errorf("a file gets %q", file.String())
	}
	f, written := terminal(t)
	work(f)
	text := written()
	holds(t, "the terminal", text, "\rchecking: 1000 of 1000\r\x1b[K")
	if n := strings.Count(text, "checking"); n > 101 {
		t.Errorf("it is written %d times", n)
	}
}

func TestHelpFitsATerminal(t *testing.T) {
	s := newStage(t)
	for _, command := range []string{"", "protect", "unprotect", "check", "explain", "coverage", "ticket", "ticket grant", "ticket list", "ticket revoke", "log"} {
		narrow(t, s.tool(append(strings.Fields(command), "--help")...).is(t, 0).Stdout)
	}
}
