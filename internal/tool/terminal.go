package tool

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/term"
)

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// A paint colours text, or does not: only on a terminal, and never against NO_COLOR.
type paint bool

func paintFor(w io.Writer) paint { return paint(isTerminal(w) && os.Getenv("NO_COLOR") == "") }

const (
	red    = "31"
	green  = "32"
	yellow = "33"
)

func (p paint) in(colour, text string) string {
	if !p || colour == "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// outcome colours a cell that says what was decided.
func (p paint) outcome(outcome, text string) string {
	colours := map[string]string{"veto": yellow, "fault": red, "escape": red, "allow": green}
	return p.in(colours[outcome], text)
}

// A progress shows on a terminal how far long work has got.
type progress struct {
	w    io.Writer
	on   bool
	last int // percent
}

func progressFor(w io.Writer) *progress { return &progress{w: w, on: isTerminal(w), last: -1} }

func (p *progress) show(what string, done, of int) {
	if percent := done * 100 / max(of, 1); p.on && of > 100 && percent != p.last {
		p.last = percent
		fmt.Fprintf(p.w, "\r%s: %d of %d", what, done, of)
	}
}

func (p *progress) end() {
	if p.on && p.last >= 0 {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
