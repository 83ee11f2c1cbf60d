// Package protection reads protection marks, with which domains protect themselves. The rule
// protection_mark, the tool and the agent use it.
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

	// MarksFile is the file in which stopguard check remembers the marks that it saw. Everyone who
	// may write a domain's metadata may remove its mark, and only this file shows that.
	MarksFile = "/var/lib/stopguard/marks.json"
)

// operations are the operations that a mark may name.
var operations = operation.All()

// A Mark is an element of a domain's metadata that protects the domain, that did so, or that
// resembles a mark.
type Mark struct {
	Reason, Owner string // as written

	// Until is the time at which the mark lapses, as written; "" if the mark does not lapse. Lapses
	// is the same as a time, zero if the mark does not lapse.
	Until  string
	Lapses time.Time

	// Shown is Until in the form that a reason shows, with a blank before it: " until 2027-06-30",
	// or " (until soon cannot be read)". It is "" if the mark does not lapse.
	Shown string

	// Operations are the operations that the mark protects against; see [operation.Covered].
	Operations []string

	// Named are the operations that the mark names. A site's setting replaces [operation.Plain]
	// unless a stop is among them.
	Named []string

	// InForce is set if the mark protects the domain now.
	InForce bool

	// Note is the reason for which the mark is not in force, or the defect of an element that
	// protects though it is not a mark. It is "" for a proper mark in force.
	Note string

	// Unreadable are the attributes that cannot be read, by name, as written. If until cannot be
	// read, the mark never lapses. If operations cannot be read, the mark protects against all.
	Unreadable map[string]string
}

// maxMarks bounds the marks that are read one by one. Otherwise a domain's owner could delay a
// decision with a million elements.
const maxMarks = 20

// Marks returns the marks of a domain in the order of its metadata, first those that are children
// of <metadata>. Metadata that cannot be read counts as one mark, which protects. If there are more
// than twenty marks, the rest counts as one mark, too.
func Marks(d *domainxml.Domain, now time.Time) []Mark {
	var marks []Mark
	if d.MetadataErr != nil {
		// The error may quote the metadata, and must not get into the record with the reason.
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

// unclear returns a mark for metadata that may contain a mark of any kind. The mark does not
// protect against a correction of that metadata.
func unclear(note string) Mark {
	return correctable(operations, note)
}

// parse reads a mark from its attributes. An attribute that cannot be read makes the mark stronger,
// never weaker.
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

// parseOperations returns the operations that a mark names, and those that it protects against. If
// the text cannot be read, both are all operations.
func parseOperations(text string) (named, covered []string, ok bool) {
	named, unknown := operation.Parse(text)
	if unknown != "" {
		return operations, operations, false
	}
	return named, operation.Covered(named), true
}

// stray returns a mark for an element that resembles a mark and is not one. If the element has our
// namespace, it protects like a mark, but may be corrected or removed. If its namespace only
// resembles ours, it does not protect, and has a note.
func stray(e domainxml.Element, parent string) (Mark, bool) {
	if !isOurs(e.Namespace) && !isAlmostOurs(e.Namespace) {
		return Mark{}, false
	}
	element := fmt.Sprintf("metadata holds %s in %s", quote.Text(e.Name), quote.Text(e.Namespace))
	switch {
	case !isOurs(e.Namespace):
		return Mark{
			Operations: operations,
			Named:      operations,
			Note:       fmt.Sprintf("%s, which protects nothing; a mark is %s in %s", element, Element, Namespace),
		}, true
	case parent != "":
		return mistyped(e.Attributes["operations"], fmt.Sprintf("%s within %s, which is not a child of <metadata>; move or remove it", element, quote.Text(parent))), true
	}
	return mistyped(e.Attributes["operations"], fmt.Sprintf("%s, which is not protection in %s; correct or remove it", element, Namespace)), true
}

// appendStrays appends the strays below an element. A program may have wrapped a mark in other
// elements. A search for marks among metadata's children would miss it.
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

// mistyped returns a mark for an element that cannot be read as one. The mark does not protect
// against the element's correction.
func mistyped(operations, note string) Mark {
	_, covered, _ := parseOperations(operations)
	return correctable(covered, note)
}

// correctable returns a mark that does not protect against a modify.
func correctable(operations []string, note string) Mark {
	operations = slices.DeleteFunc(slices.Clone(operations), func(name string) bool { return name == operation.Modify })
	return Mark{Operations: operations, Named: operations, InForce: true, Note: note}
}

// isOfAnotherDomain reports whether a mark names another domain's UUID, in any spelling. It reports
// false for a text that is not a UUID.
func isOfAnotherDomain(named, of string) bool {
	other, ok := uuid.Parse(named)
	if !ok {
		return false
	}
	this, ok := uuid.Parse(of)
	return !ok || this != other
}

// isOurs reports whether the namespace shows the intent to protect the domain.
func isOurs(namespace string) bool {
	return strings.HasPrefix(strings.ToLower(strings.TrimSpace(namespace)), "urn:stopguard")
}

// isAlmostOurs reports whether a namespace differs from ours by a typing error or two, or contains
// our name.
func isAlmostOurs(namespace string) bool {
	namespace = strings.ToLower(strings.TrimSpace(namespace))
	return strings.Contains(namespace, "stopguard") || nearest.Slips(namespace, Namespace, maxSlips) <= maxSlips
}

const maxSlips = 2
