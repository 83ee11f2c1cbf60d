// Package explanation writes the explanation of a decision, for people and as JSON: which rules
// decided, their source lines, and the input that they read.
package explanation

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/stopguard/stopguard/internal/terminal"
	"github.com/stopguard/stopguard/policy"
)

// Write writes the reasons of each rule. source returns a line of a rule's file, or "" if the file
// is not available; it may be nil.
func Write(out io.Writer, x policy.Explanation, source func(file string, line int) string) {
	width := terminal.WidthOf(out)
	for _, rule := range x.Rules {
		fmt.Fprintf(out, "\n%s\n", terminal.Clean(rule.Name))
		if len(rule.Reasons) == 0 {
			fmt.Fprintf(out, "  has nothing against it\n  written at %s\n", placeText(rule.File, rule.Line))
			writeReads(out, width, rule.Reads)
		}
		for _, r := range rule.Reasons {
			for i, line := range terminal.Wrap(r.Message, width-4) {
				fmt.Fprintln(out, map[bool]string{true: "  ", false: "    "}[i == 0]+line)
			}
			if !r.Enforced {
				fmt.Fprintln(out, "  reported only, not enforced")
			}
			if !r.Until.IsZero() {
				fmt.Fprintf(out, "  lapses at %s\n", r.Until.Format(time.RFC3339))
			}
			fmt.Fprintf(out, "  written at %s\n", placeText(r.File, r.Line))
			if source != nil {
				if text := strings.TrimSpace(source(r.File, r.Line)); text != "" {
					fmt.Fprintln(out, terminal.Cut("    "+text, width))
				}
			}
			writeReads(out, width, r.Reads)
		}
	}
}

// placeText returns the file and line of a rule. The library's files are in this program, and not
// on the host.
func placeText(file string, line int) string {
	place := fmt.Sprintf("%s:%d", terminal.Clean(file), line)
	if strings.HasPrefix(file, "rego/") {
		return "the library's " + place
	}
	return place
}

// maxValueLines bounds the lines of a value on a screen. A rule may read all domains of a host.
const maxValueLines = 12

func writeReads(out io.Writer, width int, reads []policy.Read) {
	for _, r := range reads {
		var values []string
		switch {
		case r.Withheld:
			values = []string{"(left out: it may hold passwords)"}
		case r.Value == nil: // the input does not contain null
			values = []string{"(not set)"}
		default:
			values = valueTexts(r.Value)
		}
		if len(values) == 1 {
			if line := "  reads " + terminal.Clean(r.Path) + " = " + terminal.Clean(values[0]); terminal.TextWidth(line) <= width {
				fmt.Fprintln(out, line)
				continue
			}
		}
		fmt.Fprintln(out, terminal.Cut("  reads "+r.Path+" =", width))
		var lines []string
		for _, value := range values {
			for i, line := range terminal.Wrap(value, width-6) {
				lines = append(lines, map[bool]string{true: "    ", false: "      "}[i == 0]+line)
			}
		}
		most := len(lines)
		if width < math.MaxInt32 { // a screen
			most = min(most, maxValueLines)
		}
		for _, line := range lines[:most] {
			fmt.Fprintln(out, line)
		}
		if len(lines) > most {
			fmt.Fprintf(out, "    … and %s more\n", terminal.Counted(len(lines)-most, "line"))
		}
	}
}

// valueTexts returns the items of a list of objects, and any other value as one text.
func valueTexts(value any) []string {
	list, _ := value.([]any)
	var texts []string
	for _, item := range list {
		if _, ok := item.(map[string]any); !ok {
			return []string{valueText(value)}
		}
		texts = append(texts, valueText(item))
	}
	if len(texts) == 0 {
		return []string{valueText(value)}
	}
	return texts
}

// valueText formats an XML element of the input roughly as XML, and any other value as JSON.
func valueText(value any) string {
	e, ok := value.(map[string]any)
	attributes, isElement := e["attributes"].(map[string]any)
	if !ok || !isElement {
		text, err := json.Marshal(value)
		if err != nil {
			return err.Error()
		}
		return string(text)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "<%v", e["name"])
	if e["namespace"] != "" {
		fmt.Fprintf(&b, " xmlns=%q", e["namespace"])
	}
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		fmt.Fprintf(&b, " %s=%q", name, attributes[name])
	}
	children, _ := e["children"].([]any)
	if e["text"] == "" && len(children) == 0 {
		return b.String() + "/>"
	}
	fmt.Fprintf(&b, ">%v", e["text"])
	for _, child := range children {
		b.WriteString(valueText(child))
	}
	fmt.Fprintf(&b, "</%v>", e["name"])
	return b.String()
}

// The JSON of an explanation.
type (
	Rule struct {
		Name    string   `json:"name"`
		File    string   `json:"file,omitempty"` // absent for a rule in Go
		Line    int      `json:"line,omitempty"` // of its package
		Reasons []Reason `json:"reasons"`
		Reads   []Read   `json:"reads"`
	}
	Reason struct {
		Message  string    `json:"message"`
		Until    time.Time `json:"until,omitzero"`
		Enforced bool      `json:"enforced"`
		File     string    `json:"file,omitempty"`
		Line     int       `json:"line,omitempty"` // of the clause
	}
	Read struct {
		Path     string `json:"path"`
		Value    any    `json:"value"` // null if it is withheld or not set
		Withheld bool   `json:"withheld,omitempty"`
	}
)

// Rules returns an explanation for JSON.
func Rules(x policy.Explanation) []Rule {
	rules := []Rule{}
	for _, r := range x.Rules {
		rule := Rule{Name: r.Name, File: r.File, Line: r.Line, Reasons: []Reason{}, Reads: []Read{}}
		for _, reason := range r.Reasons {
			rule.Reasons = append(rule.Reasons, Reason{reason.Message, reason.Until, reason.Enforced, reason.File, reason.Line})
		}
		for _, read := range r.Reads {
			rule.Reads = append(rule.Reads, Read{read.Path, read.Value, read.Withheld})
		}
		rules = append(rules, rule)
	}
	return rules
}
