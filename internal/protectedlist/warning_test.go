package protectedlist

import (
	"fmt"
	"strings"
	"testing"
)

var someDomains = []Domain{
	{"web-01", listUUID},
	{"My Windows VM", "5dea22b3-1d52-d8f3-2516-782e98ab3fa1"},
	{"gr\u00f6\u00dfe-1", "6dea22b3-1d52-d8f3-2516-782e98ab3fa2"},
	{"a,b", "7dea22b3-1d52-d8f3-2516-782e98ab3fa3"},
	{"pg-primary", "8dea22b3-1d52-d8f3-2516-782e98ab3fa4"},
	{"!odd", "9dea22b3-1d52-d8f3-2516-782e98ab3fa5"},
}

func TestWarnings(t *testing.T) {
	const u = listUUID
	for _, tt := range []struct {
		entry string
		want  string // of the warning without domains; "" for none
		known string // of the warning beside someDomains; "" for none
		why   string
	}{
		{"web-01", "", "", "a domain"},
		{"WEB-01", "", `the nearest is "web-01"; write web-01`, "libvirt tells them apart"},
		{u, "", "", "a UUID"},
		{strings.ToUpper(u), "", "", "libvirt reads capitals"},
		{"web-*", "", "", "a glob that matches"},
		{"db-*", "", "matches no domain; correct or remove it", "a glob that matches nothing"},
		{"{" + u + "}", "is read as the UUID " + u + "; write the UUID alone", "is read as the UUID " + u, "dress"},
		{u + ", " + u[:35] + "1", "is read as 2 UUIDs; write one UUID a line", "is read as 2 UUIDs", "dress"},
		{u[1:], "is almost a UUID, with 31 digits in place of 32; copy", "no domain matches it, the nearest is \"web-01\"; write " + u, "a digit is missing"},
		{u + "0", "is almost a UUID, with 33 digits", "write " + u, "a digit more"},
		{strings.Replace(u, "0", "O", 1), "is almost a UUID; copy", "write " + u, "a letter for a digit"},
		{"5dea22b3-1d52-d8f3-2516-782e98ab3fa7", "", "write 5dea22b3-1d52-d8f3-2516-782e98ab3fa1", "another digit"},
		{"database-prod-east-main-controller01", "", "matches no domain; ", "no UUID"},
		{`"web-01"`, "is quoted", `the nearest is "web-01"; write web-01`, "the quotes are part of the name"},
		{"'web-01", "is quoted", "write web-01", "one quote"},
		{"“web-01”", "is quoted", "write web-01", "a word processor"},
		{"web-01,", "ends with a mark", "write web-01", "a list"},
		{"- web-01", "begins with a mark", "write web-01", "YAML"},
		{"!web-01", "leaves nothing out", "write web-01", "gitignore"},
		{"!odd", "leaves nothing out", "", "a domain may have such a name"},
		{"a,b", "looks like several entries", "", "a domain may have such a name"},
		{"web-01,web-02", "looks like several entries", `but it holds the name "web-01"; write one bare name`, "two in a line"},
		{"web-01 web-02", "", `but it holds the name "web-01"`, "two in a line"},
		{"web-{01,02}", "has braces", "no domain matches it", "globs have no braces"},
		{"web-{01..12}", "has braces", "no domain matches it", "likewise"},
		{"web-[1,2]", "", "matches no domain", "a class of characters"},
		{"^web-.+$", "looks like a regular expression", "no domain matches it", "a regular expression"},
		{"db-.*", "", "write * alone for any text", "a regular expression"},
		{"web\ufe0f-01", "holds U+FE0F", "write web-01", "a variation selector"},
		{"web-01\u3164", "holds U+3164", "write web-01", "a filler"},
		{"web\u034f-01", "holds U+034F", "write web-01", "a joiner"},
		{"gro\u0308\u00dfe-1", "", `the nearest is "gr\u00f6\u00dfe-1" (this is "gro\u0308\u00dfe-1"); write größe-1`, "the same name in NFD"},
		{"w\u0435b-01", "", `the nearest is "web-01"`, "a Cyrillic letter"},
		{`My\ Windows\ VM`, "", "", "a backslash makes the blank an ordinary one"},
		{"My Windows VM", "", "", "a domain"},
		{"My_Windows_VM", "", "write My Windows VM", "another blank"},
		{"MyWindows VM", "", "write My Windows VM", "a blank less"},
		{`web-01\`, "ends with a backslash", "write web-01", "a line that goes on"},
		{"web-01.xml", "", "write web-01", "a file of libvirt's"},
		{"web-02", "", "matches no domain; correct or remove it", "another number is another domain"},
		{"web-1", "", `the nearest is "web-01"`, "a zero less"},
		{"web-0l", "", `the nearest is "web-01"`, "a letter for a digit"},
		{"pg-pirmary", "", `the nearest is "pg-primary"`, "two letters changed places"},
		{"name: web-01", "", `it holds the name "web-01"`, "a label"},
		{"web-01#main", "", "", "a comment without a blank"},
		{"# \"web-01\",", "", "", "a comment"},
		{"it's mine", "", "matches no domain", "a name may hold a quote"},
	} {
		l, err := Parse("list", []byte("# first\n"+tt.entry+"\n"))
		if err != nil {
			t.Errorf("%q: %v", tt.entry, err)
			continue
		}
		for _, known := range []struct {
			domains []Domain
			want    string
		}{{nil, tt.want}, {someDomains, tt.known}} {
			got := fmt.Sprintln(l.Warnings(known.domains))
			switch {
			case known.want == "" && got != "[]\n":
				t.Errorf("%q: %s (%s)", tt.entry, got, tt.why)
			case !strings.Contains(got, known.want), known.want != "" && !strings.HasPrefix(got, "[line 2: "):
				t.Errorf("%q: %s, want %q (%s)", tt.entry, got, known.want, tt.why)
			}
		}
	}
}

func TestOnlyAnEntryWithoutANeighbourIsUnmatched(t *testing.T) {
	l, err := Parse("list", []byte("web-02\nWEB-01\n\"x\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	var got []bool
	for _, w := range l.Warnings(someDomains) {
		got = append(got, w.Unmatched)
	}
	if fmt.Sprint(got) != "[true false false]" {
		t.Error(got, l.Warnings(someDomains))
	}
	if w := l.Warnings([]Domain{}); len(w) != 3 {
		t.Errorf("on a host without domains: %v", w)
	}
}

func TestNearest(t *testing.T) {
	domains := []Domain{{"db", ""}, {"сервер-1", ""}, {"app-alpha", ""}, {"app-alphb", ""}}
	for _, tt := range []struct{ entry, want, why string }{
		{"vm", "", "of two short names neither is a slip"},
		{"DB", "db", "case"},
		{"мастер-1", "", "names of another script are not all alike"},
		{"СЕРВЕР-1", "сервер-1", "case"},
		{"app-alphc", "app-alpha", "of two that are as near, the first"},
		{"something else", "", "nothing is near"},
		{strings.Repeat("x", 1<<20), "", "an entry may be long"},
	} {
		d, ok := domainIndex{domains: domains}.nearest(tt.entry)
		if d.Name != tt.want || ok != (tt.want != "") {
			t.Errorf("nearest(%.20q) = %q, %v, want %q (%s)", tt.entry, d.Name, ok, tt.want, tt.why)
		}
	}
}
