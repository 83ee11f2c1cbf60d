// Package operation has the names of the operations that rules decide about. No other package knows
// the former name of two of them.
package operation

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// The operations.
const (
	Stop   = "stop"
	Delete = "delete"
	Pause  = "pause"
	Reset  = "reset"
	Move   = "move"
	Modify = "modify"
)

// former is a name that meant [Modify] and [Delete] together. Marks, settings, tickets, rules and
// records on hosts, and programs of other versions, still use it.
const former = "tamper"

// All returns every operation, [Stop] first.
func All() []string { return []string{Stop, Delete, Pause, Reset, Move, Modify} }

// Check returns an error if a name is not that of an operation, to which no rule would object. The
// former name is accepted.
func Check(name string) error {
	if slices.Contains(All(), Expand(name)[0]) {
		return nil
	}
	return fmt.Errorf("the operation %q is unknown; ask about one of %s", name, strings.Join(All(), ", "))
}

// Plain returns the operations that a list entry, or a mark without operations, protects against.
func Plain() []string { return []string{Stop, Delete} }

// Parse parses the operations that a mark names, separated by blanks or commas. It returns them in
// the order of [All], each once. unknown is the first word that is not an operation, or "".
func Parse(text string) (named []string, unknown string) {
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" \t\r\n,", r) }) {
		for _, name := range Expand(word) {
			if !slices.Contains(All(), name) {
				return nil, word
			}
			named = append(named, name)
		}
	}
	return inOrder(named), ""
}

// Covered returns the operations that a mark with named operations protects against. These are the
// named ones if a stop is among them, and otherwise the named ones and [Plain]. So naming an
// operation other than a stop never removes protection. Naming only a stop protects against only a
// stop.
func Covered(named []string) []string {
	if slices.Contains(named, Stop) {
		return inOrder(named)
	}
	return inOrder(slices.Concat(named, Plain()))
}

func inOrder(some []string) []string {
	return slices.DeleteFunc(All(), func(name string) bool { return !slices.Contains(some, name) })
}

// Expand returns the operations that a name means: two for the former name, and the name itself
// for any other text.
func Expand(name string) []string {
	if name == former {
		return []string{Modify, Delete}
	}
	return []string{name}
}

// Covers reports whether an operation is among those that a name means.
func Covers(name, operation string) bool { return slices.Contains(Expand(name), operation) }

// Former returns the former name of an operation. It returns any other text unchanged.
func Former(name string) string {
	if Covers(former, name) {
		return former
	}
	return name
}

// Mentions reports whether a text contains the present name, or the former name, of an operation
// with both. The text consists of operations' names or parts of them, like a pattern or a list. For
// any other text, Mentions reports false.
func Mentions(text string) (present, isFormer bool) {
	isSeparator := func(r rune) bool { return !unicode.IsLetter(r) }
	for _, word := range strings.FieldsFunc(strings.ToLower(text), isSeparator) {
		isPart := func(name string) bool { return len(word) >= minPart && strings.Contains(name, word) }
		switch {
		case isPart(former):
			isFormer = true
		case slices.ContainsFunc(Expand(former), isPart):
			present = true
		case !slices.ContainsFunc(All(), isPart):
			return false, false
		}
	}
	return present, isFormer
}

// minPart is the smallest number of letters in a part of a name, as in a glob "mod*".
const minPart = 3
