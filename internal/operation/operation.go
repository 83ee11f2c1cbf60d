// Package operation names the operations that a rule can be asked about, and alone knows the name
// that two of them had before.
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
// records on hosts, and programs of another version, still use it.
const former = "tamper"

// All returns every operation, [Stop] first.
func All() []string { return []string{Stop, Delete, Pause, Reset, Move, Modify} }

// Check returns an error if a name is not that of an operation: no rule would have anything against
// it. The former name is one.
func Check(name string) error {
	if slices.Contains(All(), Expand(name)[0]) {
		return nil
	}
	return fmt.Errorf("the operation %q is unknown; ask about one of %s", name, strings.Join(All(), ", "))
}

// Plain returns the operations that a list entry and a mark without operations are against.
func Plain() []string { return []string{Stop, Delete} }

// Parse parses the operations that a mark names, with blanks or commas between. They are returned
// in the order of [All], each once. unknown is the first word that is not an operation; "" if all
// are.
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

// Covered returns the operations that a mark is against which names some: these, if a stop is among
// them, and else these and [Plain]. So naming one more than a stop takes nothing away, and naming a
// stop alone leaves a stop alone.
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

// Covers reports whether a name means an operation, among others or alone.
func Covers(name, operation string) bool { return slices.Contains(Expand(name), operation) }

// Former returns the former name of an operation. Any text that has none is returned as it is.
func Former(name string) string {
	if Covers(former, name) {
		return former
	}
	return name
}

// Mentions reports whether a text has a present, and a former, name of an operation that had
// another one. It is about texts that consist of operations' names, or parts of them, as a pattern
// or a list does, and not about sentences.
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

// minPart is how many letters a part of a name has at least, as in a glob "mod*".
const minPart = 3
