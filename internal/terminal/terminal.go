package terminal

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

// A Paint colours text, or does not: only on a terminal, and never against NO_COLOR.
type Paint bool

func PaintFor(w io.Writer) Paint { return Paint(isTerminal(w) && os.Getenv("NO_COLOR") == "") }

const (
	Red    = "31"
	Green  = "32"
	Yellow = "33"
)

func (p Paint) In(colour, text string) string {
	if !p || colour == "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// Outcome colours a cell that says what was decided.
func (p Paint) Outcome(outcome, text string) string { return p.In(OutcomeColour(outcome), text) }

// OutcomeColour returns the colour of an outcome; "" for one without.
func OutcomeColour(outcome string) string {
	return map[string]string{"veto": Yellow, "fault": Red, "escape": Red, "allow": Green}[outcome]
}

// A Progress shows on a terminal how far long work has got.
type Progress struct {
	w    io.Writer
	on   bool
	last int // percent
}

func ProgressFor(w io.Writer) *Progress { return &Progress{w: w, on: isTerminal(w), last: -1} }

func (p *Progress) Show(what string, done, of int) {
	if percent := done * 100 / max(of, 1); p.on && of > 100 && percent != p.last {
		p.last = percent
		fmt.Fprintf(p.w, "\r%s: %d of %d", what, done, of)
	}
}

func (p *Progress) End() {
	if p.on && p.last >= 0 {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
