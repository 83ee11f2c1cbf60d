package operation

import (
	"slices"
	"strings"
	"testing"
)

func TestTheFormerNameMeansTwoOperations(t *testing.T) {
	for _, tt := range []struct {
		name, former string
		means        []string
	}{
		{"tamper", "tamper", []string{"modify", "delete"}},
		{"modify", "tamper", []string{"modify"}},
		{"delete", "tamper", []string{"delete"}},
		{"stop", "stop", []string{"stop"}},
		{"Tamper", "Tamper", []string{"Tamper"}},
		{"", "", []string{""}},
	} {
		if got := Expand(tt.name); !slices.Equal(got, tt.means) {
			t.Errorf("Expand(%q) is %q", tt.name, got)
		}
		if got := Former(tt.name); got != tt.former {
			t.Errorf("Former(%q) is %q", tt.name, got)
		}
	}
}

func TestAMarkIsAgainstWhatItNamesAndAStop(t *testing.T) {
	for _, tt := range []struct{ text, covered, unknown, why string }{
		{"", "stop delete", "", "a plain mark"},
		{"stop", "stop", "", "a stop alone"},
		{"delete", "stop delete", "", "a stop is always among them"},
		{"reset", "stop delete reset", "", "naming more takes nothing away"},
		{"modify, stop", "stop modify", "", "exactly these"},
		{"tamper", "stop delete modify", "", "the former name of two"},
		{"stop tamper", "stop delete modify", "", "the same, with a stop"},
		{"stop stop", "stop", "", "once is enough"},
		{"stop, undefine", "", "undefine", "a word that is unknown"},
	} {
		named, unknown := Parse(tt.text)
		if unknown != tt.unknown || unknown == "" && strings.Join(Covered(named), " ") != tt.covered {
			t.Errorf("%q (%s) names %q and is against %q; unknown is %q", tt.text, tt.why, named, Covered(named), unknown)
		}
	}
}

func TestATextMentionsAnOperationByItsNames(t *testing.T) {
	for _, tt := range []struct {
		text, why       string
		present, former bool
	}{
		{"tamper", "the former name", false, true},
		{"modify", "the present name", true, false},
		{"delete", "likewise", true, false},
		{"stop", "another operation", false, false},
		{"^(stop|tamper)$", "a regular expression", false, true},
		{"{tamper,modify}", "a glob", true, true},
		{"tam*", "a glob of a part", false, true},
		{"stop pause tamper", "a list", false, true},
		{"TAMPER", "the name in upper case", false, true},
		{"do not tamper with it", "a sentence", false, false},
		{"tampering", "another word", false, false},
		{"am", "too short for a part", false, false},
		{"", "no text", false, false},
	} {
		if present, former := Mentions(tt.text); present != tt.present || former != tt.former {
			t.Errorf("Mentions(%q) (%s) is %v, %v", tt.text, tt.why, present, former)
		}
	}
}
