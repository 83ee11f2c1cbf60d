package protectedlist

import (
	"slices"
	"strings"
	"testing"
)

func TestAnEntryThatIsAUUIDButForItsDressIsThatUUID(t *testing.T) {
	const u, other = listUUID, "5dea22b3-1d52-d8f3-2516-782e98ab3fa0"
	for _, tt := range []struct{ entry, why string }{
		{u, "as libvirt writes it"},
		{listPlain, "without hyphens"},
		{strings.ToUpper(u), "as dmidecode prints it"},
		{"{" + u + "}", "as Windows prints it"},
		{"{" + strings.ToUpper(u) + "}", "likewise"},
		{"{" + listPlain + "}", "likewise"},
		{"urn:uuid:" + u, "RFC 9562"},
		{"URN:UUID:" + strings.ToUpper(u), "likewise"},
		{"uuid:" + u, "likewise"},
		{"uuid=" + u, "likewise"},
		{"UUID: " + u, "as virsh dominfo prints it"},
		{"UUID:           " + u, "likewise"},
		{u + ",", "from a list in JSON"},
		{u + ";", "likewise"},
		{u + ".", "the end of a sentence"},
		{u + ":", "likewise"},
		{`"` + u + `"`, "likewise"},
		{`"` + u + `",`, "likewise"},
		{"'" + u + "'", "likewise"},
		{"`" + u + "`", "Markdown"},
		{"“" + u + "”", "a word processor"},
		{"«" + u + "»", "likewise"},
		{"(" + u + ")", "likewise"},
		{"<" + u + ">", "likewise"},
		{"[" + u + "]", "is no class of characters"},
		{"[" + u, "is no pattern at all"},
		{"[[" + u + "]]", "likewise"},
		{"<uuid>" + u + "</uuid>", "from virsh dumpxml; no name has a slash"},
		{"  <uuid>" + u + "</uuid>", "likewise"},
		{"/" + u + "/", "likewise"},
		{"- " + u, "a list in YAML"},
		{"* " + u, "a list in Markdown"},
		{"**" + u + "**", "likewise"},
		{"_" + u + "_", "likewise"},
		{"!" + u, "nothing is left out by the list"},
		{u + " web-01", "virsh list --uuid --name"},
		{"web-01 " + u, "likewise"},
		{"web-01," + u, "likewise"},
		{"web-01\t" + u, "likewise"},
		{"db: " + u, "likewise"},
		{u + "," + other, "two in a line"},
		{other + " " + u, "likewise"},
		{u + "\u00a0", "copied from a page"},
		{"\u00a0" + u, "likewise"},
		{"\u200b" + u + "\u200b", "likewise"},
		{u + "\ufe0f", "likewise"},
		{"\u3164" + u, "likewise"},
		{strings.ReplaceAll(u, "-", "\u2011"), "hyphens that do not break"},
		{strings.ReplaceAll(u, "-", "–"), "dashes of a word processor"},
		{strings.ReplaceAll(u, "-", "\u00ad-"), "soft hyphens"},
		{strings.ReplaceAll(u, "-", "_"), "likewise"},
		{strings.ReplaceAll(u, "-", " "), "likewise"},
		{strings.ReplaceAll(u, "-", ":"), "likewise"},
		{"4D EA 22 B3 1D 52 D8 F3 25 16 78 2E 98 AB 3F A0", "as bytes"},
		{u + "#db", "a comment without a blank"},
		{"{" + u + "}#db", "likewise"},
		{"{" + u + "} # db", "likewise"},
		{"\\" + u, "likewise"},
	} {
		l, err := Parse("list", []byte("web-02\n"+tt.entry+"\nweb-03\n"))
		if err != nil {
			t.Errorf("%q makes every stop a fault: %v (%s)", tt.entry, err, tt.why)
			continue
		}
		for _, name := range []string{"db", "a"} {
			if got := matchBoth(t, l, name, u); len(got) != 1 || !strings.HasPrefix(trim(tt.entry), got[0]) {
				t.Errorf("%q protects %q of the UUID by %q (%s)", tt.entry, name, got, tt.why)
			}
			if got := matchBoth(t, l, name, "6dea22b3-1d52-d8f3-2516-782e98ab3fa0"); len(got) != 0 && name != "a" {
				t.Errorf("%q protects another UUID: %q (%s)", tt.entry, got, tt.why)
			}
		}
		whole, _ := readings(tt.entry)
		if got := matchBoth(t, l, whole, ""); len(got) == 0 || got[0] != whole {
			t.Errorf("%q does not protect a domain of that name first: %q (%s)", tt.entry, got, tt.why)
		}
		warnings := l.Warnings(nil)
		if hasWarning := len(warnings) > 0; hasWarning == isPlain(tt.entry) {
			t.Errorf("%q: warnings %v (%s)", tt.entry, warnings, tt.why)
		}
	}
}

// isPlain reports whether an entry needs no warning.
func isPlain(entry string) bool {
	_, before := readings(entry)
	return isBareUUID(trim(entry)) || isBareUUID(before)
}

func TestANameThatHoldsAUUIDIsAName(t *testing.T) {
	const u = listUUID
	for _, tt := range []struct{ entry, why string }{
		{"instance-" + u, "as clouds name domains"},
		{"one_" + u, "likewise"},
		{"vm." + u, "likewise"},
		{u + "-disk", "likewise"},
		{u + ".qcow2", "likewise"},
		{u + "0", "a digit more"},
		{"0" + u, "likewise"},
		{u[1:], "a digit less"},
		{"{" + u[1:] + "}", "likewise"},
		{strings.Replace(u, "4", "O", 1), "a letter"},
		{"web-*-" + u, "a glob"},
		{"[0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f]", "a glob with 32 digits"},
		{"é" + u, "a letter"},
		{"# " + u, "a comment"},
		{"db # " + u, "a comment"},
	} {
		l, err := Parse("list", []byte(tt.entry+"\n"))
		if err != nil {
			t.Errorf("%q: %v (%s)", tt.entry, err, tt.why)
			continue
		}
		if got := matchBoth(t, l, "x", u); len(got) != 0 {
			t.Errorf("%q protects the UUID: %q (%s)", tt.entry, got, tt.why)
		}
	}
}

// What cannot be read is still refused: the entry would match no domain.
func TestADressDoesNotMakeAnyLineReadable(t *testing.T) {
	for _, tt := range []struct{ list, why string }{
		{listUUID + "\nweb/01\n", "a slash in another line"},
		{listUUID + "\nweb[1\n", "a pattern in another line"},
		{listUUID + "\nweb\u200b\n", "a character that cannot be seen in another line"},
		{"{" + listUUID + "\xff}\n", "not UTF-8"},
		{"{" + listUUID + "}\rweb-01\r", "line ends of another kind"},
		{"# note\u2028web-01\n", "two lines for people, a comment for us"},
	} {
		if _, err := Parse("list", []byte(tt.list)); err == nil {
			t.Errorf("%q is read (%s)", tt.list, tt.why)
		}
	}
}

func TestAnyCharacterMayStandInAComment(t *testing.T) {
	l, err := Parse("list", []byte("# \U0001F468\u200d\U0001F469 and\u00a0more\ndb # \u200b/\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got := matchBoth(t, l, "db", ""); !slices.Equal(got, []string{"db"}) {
		t.Errorf("%q", got)
	}
}
