// Package operation names the operations that a rule can be asked about, and alone knows the name
// that one of them had before.
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
	Pause  = "pause"
	Reset  = "reset"
	Move   = "move"
	Modify = "modify"
)

// formerModify is the name that Modify had before. Marks, settings, tickets, rules and records on
// hosts, and programs of another version, still use it.
const formerModify = "tamper"

// All returns every operation, [Stop] first.
func All() []string { return []string{Stop, Pause, Reset, Move, Modify} }

// Check returns an error if a name is not that of an operation: no rule would have anything against
// it.
func Check(name string) error {
	if slices.Contains(All(), name) {
		return nil
	}
	return fmt.Errorf("the operation %q is unknown; ask about one of %s", name, strings.Join(All(), ", "))
}

// Canonical returns the name of an operation that is called by its present or its former name. Any
// other text is returned as it is.
func Canonical(name string) string {
	if name == formerModify {
		return Modify
	}
	return name
}

// Former returns the former name of an operation. Any text that has none is returned as it is.
func Former(name string) string {
	if name == Modify {
		return formerModify
	}
	return name
}

// Mentions reports whether a text has a present, and a former, name of a renamed operation. It is
// about texts that consist of operations' names, or parts of them, as a pattern or a list does, and
// not about sentences.
func Mentions(text string) (present, former bool) {
	isSeparator := func(r rune) bool { return !unicode.IsLetter(r) }
	for _, word := range strings.FieldsFunc(strings.ToLower(text), isSeparator) {
		isPart := func(name string) bool { return len(word) >= minPart && strings.Contains(name, word) }
		switch {
		case isPart(formerModify):
			former = true
		case isPart(Modify):
			present = true
		case !slices.ContainsFunc(All(), isPart):
			return false, false
		}
	}
	return present, former
}

// minPart is how many letters a part of a name has at least, as in a glob "mod*".
const minPart = 3
