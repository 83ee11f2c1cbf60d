package protectedlist

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode"
	"unicode/utf8"
)

const (
	listUUID  = "4dea22b3-1d52-d8f3-2516-782e98ab3fa0"
	listPlain = "4dea22b31d52d8f32516782e98ab3fa0"
)

func TestList_match(t *testing.T) {
	tests := []struct {
		name   string
		list   string
		domain string
		uuid   string
		want   []string
		why    string
	}{
		{"empty_list", "", "db", listUUID, []string{}, "protects nobody; not nil, for it becomes JSON"},
		{"blank_list", "\n \t\r\n\v\f\n", "db", listUUID, []string{}, "blank lines are not entries"},
		{"plain", "web\ndb\n", "db", "", []string{"db"}, "the patch's list"},
		{"no_newline_at_the_end", "web\ndb", "db", "", []string{"db"}, "editors leave it out"},
		{"part_at_the_start", "db-1\n", "db", "", []string{}, "a whole name"},
		{"part_at_the_end", "my-db\n", "db", "", []string{}, "a whole name"},
		{"part_then_whole", "db-1\nmy-db\nmy db\ndb\n", "db", "", []string{"db"}, "the search goes on after a part"},
		{"another_case", "DB\n", "db", "", []string{}, "libvirt tells them apart"},
		{"twice", "db\nweb\ndb\n", "db", "", []string{"db"}, "each entry once"},
		{"no_name", "db\n\n", "", "", []string{}, "no entry is empty"},
		{"blanks_around", " \tdb \t\v\f\r\n", "db", "", []string{"db"}, "blanks around do not count, nor does CR LF"},
		{"blanks_around_the_domain's_name", "db\n", "db ", "", []string{"db"}, "no entry could name it otherwise"},
		{"blank_inside", "my db\n", "my db", "", []string{"my db"}, "belongs to the name"},
		{"first_word", "my db\n", "my", "", []string{}, "not one entry a word"},
		{"byte_order_mark", "\ufeffdb\nweb\n", "db", "", []string{"db"}, "Windows editors add it"},
		{"no_ASCII", "größe-1\n", "größe-1", "", []string{"größe-1"}, "names are UTF-8"},
		{"like_an_option", "--help\n", "--help", "", []string{"--help"}, "names may begin so"},
		{"name_with_a_line_feed", "db\nweb\n", "db\nweb", "", []string{}, "never runs over lines"},

		{"slash_in_a_comment", "db # see http://wiki/db\n", "db", "", []string{"db"}, "comments may hold anything"},
		{"comment_line", "# db\n  #db\n", "db", "", []string{}, "a comment protects nobody"},
		{"comment_behind", "db # the big one\nweb\t#db\n", "db", "", []string{"db"}, "a comment begins after a blank"},
		{"comment_in_name", "# db\n", "# db", "", []string{}, "a name that begins so is written as a glob"},
		{"number_sign_inside", "db#1\n", "db#1", "", []string{"db#1"}, "names may hold one"},
		{"number_sign_inside_other_reading", "db#1\n", "db", "", []string{"db"}, "the patch's script cuts there"},
		{"number_sign_inside_not_what_follows", "db#1\n", "1", "", []string{}, "a comment by one reading, the rest of a name by the other"},
		{"number_signs_inside", "db#1#2\n", "db#1", "", []string{}, "cut from the first, or not at all"},
		{"number_sign_inside_and_comment", "db#1 # big\n", "db#1", "", []string{"db#1"}, "a comment is one in both readings"},
		{"number_sign_at_the_end", "db#\n", "db", "", []string{"db"}, "an empty comment"},
		{"number_sign_after_two_words", "my db#1\n", "my db", "", []string{"my db"}, "the patch's script cuts there"},
		{"glob_before_number_sign", "db-*#1\n", "db-7", "", []string{"db-*"}, "each reading is an entry of its own"},
		{"UUID_before_number_sign", listUUID + "#db\n", "x", listUUID, []string{listUUID}, "each reading is an entry of its own"},
		{"bad_pattern_before_number_sign", "db[#]\n", "db[", "", []string{"db["}, "the whole is a pattern; before it is a name only"},

		{"UUID", listUUID + "\n", "db", listUUID, []string{listUUID}, "names can be given anew, UUIDs not"},
		{"UUID_without_hyphens", listPlain + "\n", "db", listUUID, []string{listPlain}, "libvirt reads both"},
		{"UUID_of_the_domain_without_hyphens", listUUID + "\n", "db", listPlain, []string{listUUID}, "either way round"},
		{"UUID_in_capitals", strings.ToUpper(listUUID) + "\n", "db", listUUID, []string{strings.ToUpper(listUUID)}, "libvirt reads both"},
		{"UUID_as_name", listUUID + "\n", listUUID, "", []string{listUUID}, "some programs name domains so"},
		{"UUID_as_name_and_UUID", listUUID + "\n", listUUID, listUUID, []string{listUUID}, "each entry once"},
		{"another_UUID", "5dea22b3-1d52-d8f3-2516-782e98ab3fa0\n", "db", listUUID, []string{}, "one digit"},
		{"UUID_with_a_digit_more", listUUID + "0\n", "db", listUUID, []string{}, "that is a name"},
		{"UUID_of_no_domain", listUUID + "\n", "db", "", []string{}, "an unknown UUID is nobody's"},
		{"UUID_comment_behind", listUUID + " # db\n", "x", listUUID, []string{listUUID}, "the usual way to say which it is"},

		{"star", "pg-*\n", "pg-primary", "", []string{"pg-*"}, "a glob"},
		{"star_all", "*\n", "db", "", []string{"*"}, "protects everybody"},
		{"star_not_anchored", "pg-*\n", "my-pg-1", "", []string{}, "of the whole name"},
		{"question_mark", "db-?\n", "db-ß", "", []string{"db-?"}, "one character, not one byte"},
		{"class", "db-[1-3]\n", "db-2", "", []string{"db-[1-3]"}, "a glob"},
		{"glob_as_name", "db-[1-3]\n", "db-[1-3]", "", []string{"db-[1-3]"}, "an exact name before all else"},
		{"glob_as_name_and_glob", "db*\n", "db*", "", []string{"db*"}, "each entry once"},
		{"escaped_bracket", "db\\[1]\n", "db[1]", "", []string{"db\\[1]"}, "the cure that the error names"},
		{"backslash_as_name", "db\\1\n", "db\\1", "", []string{"db\\1"}, "an exact name before all else"},
		{"backslash_before_blanks", "My\\ Windows\\ VM\n", "My Windows VM", "", []string{"My\\ Windows\\ VM"}, "as a shell completes the name"},
		{"backslash_as_name_with_blanks", "My\\ Windows\\ VM\n", "My\\ Windows\\ VM", "", []string{"My\\ Windows\\ VM"}, "an exact name before all else"},
		{"backslash_at_the_end", "db\\\n", "db\\", "", []string{"db\\"}, "a name may end so"},

		{"all_in_order", "d*\n" + listPlain + "\n?b\ndb\n" + listUUID + "\n*b\nd*\n", "db", listUUID,
			[]string{"db", listPlain, listUUID, "d*", "?b", "*b"}, "exact, UUIDs, globs; each in the order of the file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l, err := Parse("list", []byte(tt.list))
			if err != nil {
				t.Fatal(err)
			}
			got := matchBoth(t, l, tt.domain, tt.uuid)
			if got == nil || !slices.Equal(got, tt.want) {
				t.Errorf("%q: match(%q, %q) = %#v, want %q (%s)", tt.list, tt.domain, tt.uuid, got, tt.want, tt.why)
			}
		})
	}
}

func TestParseList_refuses(t *testing.T) {
	tests := []struct {
		name string
		list string
		want string
		why  string
	}{
		{"open_bracket", "db\nweb[1\n", `LIST line 2: "web[1" is not a valid pattern; write \[ for a literal bracket, and \\ for a literal backslash`, "would match nobody"},
		{"open_bracket_late", "db*[\n", `LIST line 1: "db*[" is not a valid pattern; write \[ for a literal bracket, and \\ for a literal backslash`, "found here, not when a name reaches that far"},
		{"backslash_at_the_end", "db*\\\n", `LIST line 1: "db*\\" is not a valid pattern; write \[ for a literal bracket, and \\ for a literal backslash`, "would match nobody"},
		{"NUL", "db\nweb\n\x00\n", "LIST line 3: a NUL byte; save the file as UTF-8 text without NUL bytes", "a block of zeros after a power cut"},
		{"UTF-16", "\xff\xfed\x00b\x00\n\x00", "LIST line 1: the text is UTF-16; save the file as UTF-8", "would match nobody"},
		{"UTF-16_the_other_way_round", "\xfe\xff\x00d\x00b\x00\n", "LIST line 1: the text is UTF-16; save the file as UTF-8", "would match nobody"},
		{"UTF-16_without_mark", "d\x00b\x00\n\x00", "LIST line 1: a NUL byte; save the file as UTF-8 text without NUL bytes", "would match nobody"},
		{"Latin-1", "db\n# ok: ö\ngr\xf6\xdfe\n", "LIST line 3: invalid UTF-8; save the file as UTF-8", "would match nobody: names are UTF-8"},
		{"byte_order_mark_inside", "db\n\ufeffweb\n", "LIST line 2: U+FEFF, which nobody can see; retype the line", "two files joined: the second one's first name would match nobody"},
		{"no-break_space", "db\u00a0\n", "LIST line 1: U+00A0, which nobody can see; retype the line", "copied from a page, it would match nobody"},
		{"zero-width_space", "db\u200b\n", "LIST line 1: U+200B, which nobody can see; retype the line", "likewise"},
		{"line_separator", "db\u2028web\n", "LIST line 1: U+2028, which nobody can see; retype the line", "two lines for people, one for us"},
		{"slash", "db\nweb-*/x\n", "LIST line 2: a slash, which no domain's name has; correct or remove it", "would match nobody"},
		{"slash_behind_one_in_a_comment", "# see http://wiki/db\ndb # /\n\nweb-*/x\n", "LIST line 4: a slash, which no domain's name has; correct or remove it", "most files begin with a comment"},
		{"shell's_none_of", "[!c]*\n", `LIST line 1: "[!c]*" would match what it seems to leave out; write [^...] for none of these, and \[! for a literal bracket`, "a shell reads it as its opposite"},
		{"carriage_returns_alone", "db\rweb\r", "LIST line 1: a carriage return inside a line; end each line with a line feed", "would be one entry that matches nobody"},
		{"carriage_returns_alone_after_comment", "# protected\rdb\rweb\r", "LIST line 1: a carriage return inside a line; end each line with a line feed", "would be all comment"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l, err := Parse("LIST", []byte(tt.list))
			if l != nil || err == nil || err.Error() != tt.want {
				t.Errorf("got %v\nwant %s (%s)", err, tt.want, tt.why)
			}
		})
	}
}

func TestList_is_safe_for_concurrent_use(t *testing.T) {
	data := []byte("db\nweb-*\n" + listUUID + "\n")
	l, err := Parse("list", data)
	if err != nil {
		t.Fatal(err)
	}
	clear(data) // the caller's bytes are the caller's
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				if got := l.Match("db", listUUID); !slices.Equal(got, []string{"db", listUUID}) {
					t.Error(got)
				}
			}
		})
	}
	wg.Wait()
}

// patchProtects decides as the script of the libvirt patch does:
//
//	grep -Fxq -- "$DOMAIN_NAME" <(sed -e 's/#.*$//' -e '/^[[:space:]]*$/d' "$PROTECT_LIST")
func patchProtects(list, name string) bool {
	for line := range strings.Lines(list) {
		line, _, _ = strings.Cut(strings.TrimSuffix(line, "\n"), "#")
		if strings.Trim(line, " \t\n\v\f\r") != "" && line == name {
			return true
		}
	}
	return false
}

// plainLine matches what the patch's script and we read alike: a name without `#`, glob, backslash
// or blanks around it; a line of comment; a blank line.
var plainLine = regexp.MustCompile(`^([^#*?\[\\\r\t\v\f ]+|#[^\r]*|[ \t\v\f]*)$`)

// FuzzList feeds it a list and a name of any bytes. The list is also cut down to its plain lines,
// and then must protect whom the patch's script protects.
func FuzzList(f *testing.F) {
	f.Add("db\n# web\n\nweb-1\n", "web-1")
	f.Add("db#1 # x\n d*\n"+listUUID+"\n", "db")
	f.Add("\ufeffdb[1]\r\n", "db[1]")
	f.Add("aa\naaa\na a\n", "aa")
	f.Add("a\n\xff\x00", "\xff")
	f.Fuzz(func(t *testing.T, text, name string) {
		if len(text) > 4096 {
			return // every entry is looked up in every line: long lists say nothing new, slowly
		}
		var plain strings.Builder
		for line := range strings.Lines(strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", "0"), "?")) {
			hidden := strings.ContainsFunc(line, func(r rune) bool { return r >= utf8.RuneSelf && !unicode.IsPrint(r) })
			slash := strings.Contains(line, "/") && !strings.HasPrefix(line, "#") // no name has one
			if plainLine.MatchString(strings.TrimSuffix(line, "\n")) && !hidden && !slash {
				plain.WriteString(line)
			}
		}
		checkPlain(t, plain.String(), name)

		l, err := Parse("list", []byte(text))
		if err != nil {
			if !regexp.MustCompile(`^list line [1-9][0-9]*: [^\n]+; [^\n]+$`).MatchString(err.Error()) {
				t.Errorf("%q: error %q", text, err)
			}
			return
		}
		exact := false
		for line := range strings.Lines(strings.TrimPrefix(text, "\ufeff")) {
			whole, before := readings(strings.TrimSuffix(line, "\n"))
			for _, entry := range []string{whole, before} {
				if entry == "" {
					continue
				}
				exact = exact || entry == trim(name)
				if got := matchBoth(t, l, entry, entry); len(got) == 0 || got[0] != entry {
					t.Errorf("%q: the entry %q does not protect its own name: %q", text, entry, got)
				}
			}
		}
		got := matchBoth(t, l, name, name)
		if got == nil || (len(got) > 0 && got[0] == trim(name)) != exact {
			t.Errorf("%q: match(%q) = %#v, but line by line: %v", text, name, got, exact)
		}
		slices.Sort(got)
		if len(slices.Compact(slices.Clone(got))) != len(got) {
			t.Errorf("%q: %q are not all different", text, got)
		}
	})
}

// matchBoth is match, of a list that has an index and of one that has none yet.
func matchBoth(t *testing.T, l *List, name, uuid string) []string {
	t.Helper()
	got := l.matchText(name, uuid)
	if indexed := l.matchIndexed(name, uuid); !slices.Equal(got, indexed) {
		t.Fatalf("%q: match(%q, %q) = %q, with the index %q", l.text, name, uuid, got, indexed)
	}
	return got
}

func checkPlain(t *testing.T, list, name string) {
	t.Helper()
	l, err := Parse("list", []byte(list))
	if err != nil {
		t.Fatalf("%q: %v", list, err)
	}
	names := []string{}
	if plainLine.MatchString(name) {
		names = append(names, name)
	}
	for line := range strings.Lines(list) {
		line = strings.TrimSuffix(line, "\n")
		if line == trim(line) {
			names = append(names, line, line+"x", strings.TrimPrefix(line, "#"))
		}
	}
	for _, name := range names {
		if name != trim(name) {
			continue // we take such for the name without its blanks, the patch does not
		}
		if got, want := len(matchBoth(t, l, name, "")) > 0, patchProtects(list, name); got != want {
			t.Errorf("%q: protects %q: %v, by the patch's script: %v", list, name, got, want)
		}
	}
}

func BenchmarkList(b *testing.B) {
	for _, n := range []int{10, 100_000} {
		var text strings.Builder
		for i := range n {
			fmt.Fprintf(&text, "vm-%06d.example.org\n", i)
		}
		data := []byte(text.String())
		l, err := Parse("list", data)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("parse/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Parse("list", data)
			}
		})
		for _, name := range []string{"db", "vm", fmt.Sprintf("vm-%06d.example.org", n-1)} {
			b.Run(fmt.Sprintf("match/%d/%s", n, name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					l.matchText(name, listUUID)
				}
			})
			b.Run(fmt.Sprintf("match-indexed/%d/%s", n, name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					l.matchIndexed(name, listUUID)
				}
			})
		}
	}
}

func TestAListIsIndexedForASecondDomainOnly(t *testing.T) {
	t.Parallel()
	l, err := Parse("LIST", []byte("db\n"+listUUID+"\nweb-*\n"))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // a hook asks for its decision, and again for the record
		if got, want := l.Match("db", listUUID), []string{"db", listUUID}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if l.index.names != nil {
		t.Error("it is indexed for one domain")
	}
	for range 3 {
		if got := l.Match("web-01", ""); !slices.Equal(got, []string{"web-*"}) {
			t.Errorf("web-01: %q", got)
		}
		if got := l.Match("db", ""); !slices.Equal(got, []string{"db"}) {
			t.Errorf("db without its UUID: %q", got)
		}
		if got := l.Match("db", listUUID); !slices.Equal(got, []string{"db", listUUID}) {
			t.Errorf("db: %q", got)
		}
	}
	if l.index.names == nil {
		t.Error("it is not indexed for a second one")
	}
}
