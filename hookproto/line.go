package hookproto

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxLine = 1024 // bytes, newline included: stays readable behind libvirt's own prefix
	maxName = 200
	maxRule = 200
	maxHook = 400
	maxOff  = maxHook + len("chmod -x ")
	maxNote = 160
)

// Veto is the error with which a [Handler] refuses a stop. Return a pointer.
type Veto struct {
	Reason string // Reason is the text for the client whose stop was refused: what is protected, why, what to do instead.
	Rule   string // Rule is the rule's ID; "" leaves it out.
	More   int    // More is the number of further reasons.
	Note   string // Note is a further problem, such as a record that could not be written; "" if there was none.
}

// Error returns the reason, its rule and the note, as "REASON (rule RULE) and 2 more; NOTE". The
// text is not filtered; [Run] filters it.
func (v *Veto) Error() string {
	if v == nil {
		return "nil *Veto"
	}
	return v.Reason + v.tail(v.Rule, v.Note)
}

func (v *Veto) tail(rule, note string) string {
	var b strings.Builder
	if rule != "" {
		fmt.Fprintf(&b, " (rule %s)", rule)
	}
	if v.More > 0 {
		fmt.Fprintf(&b, " and %d more", v.More)
	}
	if note != "" {
		fmt.Fprintf(&b, "; %s", note)
	}
	return b.String()
}

// Line returns the line that [Run] writes for a veto of this domain's stop, without the newline. It
// is for other programs that refuse stops.
func (v *Veto) Line(name string) string { return strings.TrimSuffix(vetoLine(name, v), "\n") }

// FaultLine returns the line of a fault, without the newline. what is the fault's text, and off is
// the command that switches the guard off. It is for other programs that refuse stops.
func FaultLine(name, what, off string) string {
	return strings.TrimSuffix(line("fault", name, what, "; to switch the guard off: "+cut(clean(off, maxOff), maxOff)), "\n")
}

func vetoLine(name string, v *Veto) string {
	reason := v.Reason
	if reason == "" {
		reason = "no reason was given"
	}
	return line("veto", name, reason, v.tail(cut(clean(v.Rule, maxRule), maxRule), cut(clean(v.Note, maxNote), maxNote)))
}

func faultLine(name, what, hook string) string {
	if hook == "" {
		hook = "the hook file"
	}
	return FaultLine(name, what, "chmod -x "+quoted(hook, maxHook)) + "\n"
}

// line cuts only the text. The tail names the rule, or the way out of a fault, and must survive any
// length of text.
func line(kind, name, text, tail string) string {
	head := "stopguard: " + kind + ": " + quoted(name, maxName) + ": "
	room := maxLine - len(head) - len(tail) - len("\n")
	return head + cut(clean(text, room), room) + tail + "\n"
}

// quoted returns a name of ordinary characters unchanged, and any other as a quoted string.
// Otherwise a name such as "x: fine (rule none)" could pass for our own text. The result has at
// most limit bytes.
func quoted(name string, limit int) string {
	if name != "" && strings.IndexFunc(name, unusual) < 0 {
		return cut(name, limit)
	}
	const end = `…"`
	var b strings.Builder
	b.WriteByte('"')
	for i, size := 0, 0; i < len(name); i += size {
		var r rune
		r, size = utf8.DecodeRuneInString(name[i:])
		piece := name[i : i+size]
		switch {
		case r == utf8.RuneError && size == 1:
			piece = fmt.Sprintf(`\x%02x`, name[i])
		case r == '"' || r == '\\':
			piece = `\` + piece
		case !printable(r):
			piece = strings.Trim(strconv.QuoteRuneToASCII(r), "'")
		}
		if b.Len()+len(piece)+len(end) > limit {
			b.WriteString(end)
			return b.String()
		}
		b.WriteString(piece)
	}
	b.WriteByte('"')
	return b.String()
}

func unusual(r rune) bool {
	return !printable(r) || !unicode.In(r, unicode.L, unicode.M, unicode.N) && !strings.ContainsRune(" -_.,/@+#%=", r)
}

// clean replaces characters that must not reach a terminal: libvirt passes a hook's stderr on
// unfiltered. It reads only twice the limit: a reason may be huge, and a replaced character shrinks
// by at most a quarter.
func clean(s string, limit int) string {
	s = s[:min(len(s), 2*limit)]
	var b strings.Builder
	b.Grow(len(s))
	for _, r := range s {
		if !printable(r) {
			r = unicode.ReplacementChar
		}
		b.WriteRune(r)
	}
	return b.String()
}

// printable is unicode.IsPrint without the letters, marks and symbols that a terminal does not
// show: Hangul fillers, variation selectors, the blank Braille pattern.
func printable(r rune) bool {
	return unicode.IsPrint(r) && r != '\u2800' &&
		!unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// cut shortens s to at most limit bytes. A shortened text ends in an ellipsis.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	end := limit - len("…")
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "…"
}
