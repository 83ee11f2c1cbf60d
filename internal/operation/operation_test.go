package operation

import "testing"

func TestAnOperationIsKnownByItsFormerName(t *testing.T) {
	for _, tt := range []struct{ name, canonical, former string }{
		{"modify", "modify", "tamper"},
		{"tamper", "modify", "tamper"},
		{"stop", "stop", "stop"},
		{"Tamper", "Tamper", "Tamper"},
		{"", "", ""},
	} {
		if got := Canonical(tt.name); got != tt.canonical {
			t.Errorf("Canonical(%q) is %q", tt.name, got)
		}
		if got := Former(tt.name); got != tt.former {
			t.Errorf("Former(%q) is %q", tt.name, got)
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
