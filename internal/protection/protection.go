// Package protection reads protection marks, with which domains protect themselves. The rule
// protection_mark, the tool and the agent ask it alike.
package protection

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/internal/calendar"
	"github.com/stopguard/stopguard/internal/nearest"
	"github.com/stopguard/stopguard/internal/operation"
	"github.com/stopguard/stopguard/internal/quote"
	"github.com/stopguard/stopguard/internal/uuid"
)

const (
	// Namespace is the namespace of a mark in a domain's metadata.
	Namespace = "urn:stopguard:protection:1"

	// Element is the name of a mark.
	Element = "protection"

	// MarksFile is where stopguard check remembers the marks that it saw. Whoever may write a
	// domain's metadata may remove its mark, and only this tells.
	MarksFile = "/var/lib/stopguard/marks.json"
)

// operations are those that a mark may name.
var operations = operation.All()

// A Mark is an element of a domain's metadata that protects it, that did, or that looks as though
// it was meant to.
type Mark struct {
	Reason, Owner string // as written

	// Until is when the mark lapses, as written; "" if it does not. Lapses is the same as a time,
	// zero if it does not.
	Until  string
	Lapses time.Time

	// Shown is Until as a reason shows it, with a blank before it: " until 2027-06-30", or " (until
	// soon cannot be read)"; "" if there is none.
	Shown string

	// Operations are those that the mark protects against; see [operation.Covered].
	Operations []string

	// Named are those that it names. A site's setting stands in for [operation.Plain] unless a stop
	// is among them.
	Named []string

	// InForce says whether the mark protects the domain now.
	InForce bool

	// Note says why the mark is not in force, or what is wrong with an element that protects though
	// it is not a mark; "" for a mark that is in force.
	Note string

	// Unreadable are the attributes that cannot be read, by name, as written. A mark whose until
	// cannot be read never lapses; one whose operations cannot be read protects against all.
	Unreadable map[string]string
}

// maxMarks is how many marks are told apart. A domain's owner may write a million elements, and
// must not make a decision late.
const maxMarks = 20

// Marks returns the marks of a domain in the order of its metadata, first those that are children
// of <metadata>. Metadata that cannot be read is one mark, which protects. So are all marks beyond
// the first twenty together.
func Marks(d *domainxml.Domain, now time.Time) []Mark {
	var marks []Mark
	if d.MetadataErr != nil {
		// What is wrong with it may quote it, and a reason goes on record.
		marks = append(marks, unclear("its metadata, title or description cannot be read, and may hold a mark; look at it with virsh dumpxml"))
	}
	for _, e := range d.Metadata {
		if e.Namespace == Namespace && e.Name == Element {
			marks = append(marks, parse(e.Attributes, d.UUID, now))
		} else if mark, ok := stray(e, ""); ok {
			marks = append(marks, mark)
		}
		if len(marks) > maxMarks {
			break
		}
	}
	for _, e := range d.Metadata {
		marks = appendStrays(marks, e)
	}
	if len(marks) > maxMarks {
		marks = append(marks[:maxMarks], unclear(fmt.Sprintf("metadata holds more than %d marks, or what looks like them; remove some", maxMarks)))
	}
	return marks
}

// unclear returns a mark for what may hold one of any kind. It does not protect against its own
// correction.
func unclear(note string) Mark {
	return correctable(operations, note)
}

// parse reads a mark by its attributes. What cannot be read makes it stronger, never weaker.
func parse(attributes map[string]string, domain string, now time.Time) Mark {
	m := Mark{
		Reason:     attributes["reason"],
		Owner:      attributes["owner"],
		Until:      attributes["until"],
		InForce:    true,
		Unreadable: map[string]string{},
	}
	var ok bool
	if m.Named, m.Operations, ok = parseOperations(attributes["operations"]); !ok {
		m.Unreadable["operations"] = attributes["operations"]
	}
	moment, ok := calendar.ParseMoment(m.Until)
	switch {
	case m.Until == "":
	case !ok:
		m.Shown = fmt.Sprintf(" (until %s cannot be read)", quote.Text(m.Until))
		m.Unreadable["until"], m.Until = m.Until, ""
	default:
		m.Shown = fmt.Sprintf(" until %s", moment)
		m.Lapses = moment.At
	}
	switch of := attributes["domain"]; {
	case isOfAnotherDomain(of, domain):
		m.InForce = false
		m.Note = fmt.Sprintf("its mark was made for the domain %s, which this one is a clone of, and is inert", quote.Text(of))
	case ok && moment.Passed(now):
		m.InForce = false
		m.Note = fmt.Sprintf("its mark has lapsed on %s", moment)
	}
	return m
}

// parseOperations returns the operations that a mark names, and those that it protects against: all
// of them if they cannot be read.
func parseOperations(text string) (named, covered []string, ok bool) {
	named, unknown := operation.Parse(text)
	if unknown != "" {
		return operations, operations, false
	}
	return named, operation.Covered(named), true
}

// stray returns a mark for an element that is not one and was meant to be. One in our namespace
// protects like a mark, but may be corrected or removed; one whose namespace is almost ours is
// noted.
func stray(e domainxml.Element, parent string) (Mark, bool) {
	if !isOurs(e.Namespace) && !isAlmostOurs(e.Namespace) {
		return Mark{}, false
	}
	what := fmt.Sprintf("metadata holds %s in %s", quote.Text(e.Name), quote.Text(e.Namespace))
	switch {
	case !isOurs(e.Namespace):
		return Mark{
			Operations: operations,
			Named:      operations,
			Note:       fmt.Sprintf("%s, which protects nothing; a mark is %s in %s", what, Element, Namespace),
		}, true
	case parent != "":
		return mistyped(e.Attributes["operations"], fmt.Sprintf("%s within %s, which is not a child of <metadata>; move or remove it", what, quote.Text(parent))), true
	}
	return mistyped(e.Attributes["operations"], fmt.Sprintf("%s, which is not protection in %s; correct or remove it", what, Namespace)), true
}

// appendStrays adds the strays among what is below an element. A mark that stands deeper than
// metadata's children was wrapped by whatever wrote it, and is not found by whoever would remove
// it.
func appendStrays(marks []Mark, parent domainxml.Element) []Mark {
	for _, e := range parent.Children {
		if len(marks) > maxMarks {
			break
		}
		if mark, ok := stray(e, parent.Name); ok {
			marks = append(marks, mark)
		}
		marks = appendStrays(marks, e)
	}
	return marks
}

// mistyped returns a mark for what cannot be read as one. It does not protect against its own
// correction.
func mistyped(operations, note string) Mark {
	_, covered, _ := parseOperations(operations)
	return correctable(covered, note)
}

// correctable returns a mark that does not protect against a modify.
func correctable(operations []string, note string) Mark {
	operations = slices.DeleteFunc(slices.Clone(operations), func(name string) bool { return name == operation.Modify })
	return Mark{Operations: operations, Named: operations, InForce: true, Note: note}
}

// isOfAnotherDomain reports whether a mark names another domain's UUID, in any way of writing it.
// What is not a UUID does not.
func isOfAnotherDomain(named, of string) bool {
	other, ok := uuid.Parse(named)
	if !ok {
		return false
	}
	this, ok := uuid.Parse(of)
	return !ok || this != other
}

// isOurs reports whether whoever wrote the namespace meant to protect the domain.
func isOurs(namespace string) bool {
	return strings.HasPrefix(strings.ToLower(strings.TrimSpace(namespace)), "urn:stopguard")
}

// isAlmostOurs reports whether a namespace is ours but for a slip or two, or names us in another
// way.
func isAlmostOurs(namespace string) bool {
	namespace = strings.ToLower(strings.TrimSpace(namespace))
	return strings.Contains(namespace, "stopguard") || nearest.Slips(namespace, Namespace, maxSlips) <= maxSlips
}

const maxSlips = 2
