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

// A Paint colours text on a terminal, unless NO_COLOR is set.
type Paint bool

// PaintFor returns the Paint for a writer.
func PaintFor(w io.Writer) Paint { return Paint(isTerminal(w) && os.Getenv("NO_COLOR") == "") }

// The colours.
const (
	Red    = "31"
	Green  = "32"
	Yellow = "33"
)

// In returns text in a colour; "" is the default colour.
func (p Paint) In(colour, text string) string {
	if !p || colour == "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// Outcome returns text in the colour of an outcome.
func (p Paint) Outcome(outcome, text string) string { return p.In(OutcomeColour(outcome), text) }

// OutcomeColour returns the colour of an outcome; "" for the default colour.
func OutcomeColour(outcome string) string {
	return map[string]string{"veto": Yellow, "fault": Red, "escape": Red, "allow": Green}[outcome]
}

// A Progress shows the progress of long work on a terminal.
type Progress struct {
	w    io.Writer
	on   bool
	last int // percent
}

// ProgressFor returns a Progress for a writer.
func ProgressFor(w io.Writer) *Progress { return &Progress{w: w, on: isTerminal(w), last: -1} }

// Show shows that done parts of all are done. It shows nothing for up to a hundred parts.
func (p *Progress) Show(action string, done, all int) {
	if percent := done * 100 / max(all, 1); p.on && all > 100 && percent != p.last {
		p.last = percent
		fmt.Fprintf(p.w, "\r%s: %d of %d", action, done, all)
	}
}

// End removes the line.
func (p *Progress) End() {
	if p.on && p.last >= 0 {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
