package terminal_test

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/stopguard/stopguard/internal/terminal"
	"github.com/stopguard/stopguard/internal/tool/tooltest"
)

func TestProgressIsForTerminalsOnly(t *testing.T) {
	work := func(w io.Writer) {
		p := terminal.ProgressFor(w)
		for i := range 1000 {
			p.Show("checking", i+1, 1000)
		}
		p.End()
	}
	var file bytes.Buffer
	if work(&file); file.Len() > 0 {
		t.Errorf("a file gets %q", file.String())
	}
	f, written := tooltest.OpenTerminal(t)
	work(f)
	text := written()
	tooltest.Holds(t, "the terminal", text, "\rchecking: 1000 of 1000\r\x1b[K")
	if n := strings.Count(text, "checking"); n > 101 {
		t.Errorf("it is written %d times", n)
	}
}
