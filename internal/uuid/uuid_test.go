package uuid_test

import (
	"strings"
	"testing"

	"github.com/stopguard/stopguard/internal/uuid"
)

func TestParse(t *testing.T) {
	const plain = "d19e7151-4c02-4aa7-a443-59213be70aba"
	want, ok := uuid.Parse(plain)
	if !ok || want[0] != 0xd1 || want[15] != 0xba {
		t.Fatalf("%x, %v", want, ok)
	}
	for _, same := range []string{strings.ToUpper(plain), strings.ReplaceAll(plain, "-", ""), "d-19e71514c024aa7a44359213be70ab-a", "-" + plain + "--"} {
		if got, ok := uuid.Parse(same); !ok || got != want {
			t.Errorf("%q is %x, %v", same, got, ok)
		}
	}
	for _, text := range []string{"", "-", plain[1:], plain + "0", " " + plain, "{" + plain + "}", "urn:uuid:" + plain, strings.Replace(plain, "d", "g", 1)} {
		if _, ok := uuid.Parse(text); ok {
			t.Errorf("%q is read as a UUID", text)
		}
	}
}

func TestCanonical(t *testing.T) {
	const plain = "d19e7151-4c02-4aa7-a443-59213be70aba"
	for _, tt := range []struct {
		s           string
		want        string
		isCanonical bool
		why         string
	}{
		{plain, plain, true, "as libvirt writes it"},
		{strings.ToUpper(plain), plain, false, "in capitals"},
		{strings.ReplaceAll(plain, "-", ""), plain, false, "without hyphens"},
		{"d19e71514-c02-4aa7-a443-59213be70aba", plain, false, "hyphens elsewhere"},
		{"", "", false, "nothing"},
		{plain[1:], "", false, "a digit is missing"},
		{strings.Replace(plain, "-", "_", 1), "", false, "another character"},
	} {
		if got := uuid.Canonical(tt.s); got != tt.want {
			t.Errorf("Canonical(%q) = %q, want %q (%s)", tt.s, got, tt.want, tt.why)
		}
		if got := uuid.IsCanonical(tt.s); got != tt.isCanonical {
			t.Errorf("IsCanonical(%q) = %v (%s)", tt.s, got, tt.why)
		}
	}
}
