package ticket

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/stopguard/stopguard/policy"
)

// Every row spoils the one ticket that would fit. None may lift anything, and each is said, once,
// on a line.
func TestSpoilt(t *testing.T) {
	edit := func(old, new string) func(*testing.T, string) {
		return func(t *testing.T, p string) {
			data, err := os.ReadFile(p)
			must(t, err)
			if strings.Count(string(data), old) != 1 {
				t.Fatalf("%q is not once in %s", old, data)
			}
			must(t, os.WriteFile(p, []byte(strings.Replace(string(data), old, new, 1)), 0o600))
		}
	}
	remove := func(then func(p string) error) func(*testing.T, string) {
		return func(t *testing.T, p string) { must(t, os.Remove(p)); must(t, then(p)) }
	}
	const form, other = "is not JSON of the right form", "is not written as it is "
	files := []struct {
		name  string
		spoil func(*testing.T, string)
		want  string // in the report
		why   string
	}{
		{"empty", func(t *testing.T, p string) { must(t, os.Truncate(p, 0)) }, form, "a disk that was full"},
		{"cut", func(t *testing.T, p string) { must(t, os.Truncate(p, 50)) }, form, "half of it"},
		{"without_its_last_byte", func(t *testing.T, p string) {
			st, err := os.Stat(p)
			must(t, err)
			must(t, os.Truncate(p, st.Size()-1))
		}, other, "all but a byte"},
		{"zeros", func(t *testing.T, p string) { must(t, os.WriteFile(p, make([]byte, 300), 0o600)) }, form, "what some file systems leave after a power cut"},
		{"null", func(t *testing.T, p string) { must(t, os.WriteFile(p, []byte("null\n"), 0o600)) }, other, "JSON, and nothing"},
		{"of_an_unknown_field", edit(`}`, `,"scope":"all"}`), other, "of a later version, perhaps: half understood is not understood"},
		{"with_a_doubled_key", edit(`}`, `,"name":"*"}`), other, "which one counts?"},
		{"with_a_key_in_capitals", edit(`"name"`, `"Name"`), other, "encoding/json would take it"},
		{"with_trailing_data", edit("}\n", "}\n{}\n"), form, "what is it for?"},
		{"with_a_trailing_line", edit("}\n", "}\n\n"), other, "edited by hand"},
		{"with_a_blank", edit(`,"name"`, `, "name"`), other, "edited by hand"},
		{"with_a_time_of_another_form", edit("2026-10-02T12:00:00Z", "2026-10-02T14:00:00+02:00"), other, "there is one form"},
		{"of_the_wrong_type", edit("2026-10-02T12:00:00Z", "today"), form, ""},
		{"writable_by_everyone", func(t *testing.T, p string) { must(t, os.Chmod(p, 0o666)) }, "is writable by everyone", "anybody's word"},
		{"of_another_owner", func(t *testing.T, p string) {
			if os.Geteuid() != 0 {
				t.Skip("takes root")
			}
			must(t, os.Chown(p, 4242, 0))
		}, "is owned by uid 4242", "somebody's word"},
		{"oversized", func(t *testing.T, p string) { must(t, os.Truncate(p, maxFile+1)) }, "is longer than 32768 bytes", "bounded"},
		{"a_link", func(t *testing.T, p string) {
			must(t, os.Rename(p, p+".moved"))
			must(t, os.Symlink(p+".moved", p))
		}, "is a link", "even to what would do"},
		{"a_link_to_nowhere", remove(func(p string) error { return os.Symlink("nowhere", p) }), "is a link", ""},
		{"a_FIFO", remove(func(p string) error { return unix.Mkfifo(p, 0o600) }), "is a FIFO", "would wait for ever"},
		{"a_folder", remove(func(p string) error { return os.Mkdir(p, 0o700) }), "is a folder", ""},
	}
	type row = struct {
		name  string
		spoil func(*testing.T, string)
		want  string
		why   string
	}
	tickets := append(files[:len(files):len(files)],
		row{"of_another_ID", edit(`{"id":"`, `{"id":"0`), other, "no ID"},
		row{"of_another_file", func(t *testing.T, p string) {
			must(t, os.Rename(p, filepath.Join(filepath.Dir(p), "0123456789abcdef.json")))
		}, "holds the ticket ", "a copy would be a second ticket"},
		row{"for_longer_than_is_granted", edit("2026-10-02T13", "2027-10-02T13"), "holds what would not be granted", ""},
		row{"without_a_reason", edit("disk swap", ""), "holds what would not be granted", ""},
		row{"of_no_boot", edit(bootA, ""), other, ""},
		row{"without_a_deadline", edit(`"deadline":46`, `"deadline":-46`), other, ""},
		row{"for_another_operation", edit(`"stop"`, `"start"`), "holds what would not be granted", ""},
		row{"for_everything", edit(uuidA, ""), "holds what would not be granted", ""},
		row{"for_a_UUID_in_capitals", edit(uuidA, strings.ToUpper(uuidA)), other, "not as Grant writes it"},
	)
	claims := append(files[:len(files):len(files)],
		row{"of_another_ticket", edit(`"ticket":"`, `"ticket":"0123456789abcdef","x":"`), other, ""},
		row{"of_another_domain", edit(uuidA, uuidB), "is a claim on something else", "copied from another ticket"},
		row{"of_half_an_incarnation", edit(`"pid":1001`, `"pid":0`), other, "neither or both"},
	)
	for _, part := range []struct {
		name, suffix, operation string
		rows                    []row
	}{{"ticket", ".json", `"stop"`, tickets}, {"claim", ".taken", "", claims}} {
		for _, tt := range part.rows {
			t.Run(part.name+"/"+tt.name, func(t *testing.T) {
				s := empty(t)
				granted := s.mustGrant(t, single(uuidA))
				if part.name == "claim" {
					s.take(run(uuidA, 1))
				}
				tt.spoil(t, filepath.Join(s.Root, home, granted.ID+part.suffix))
				for _, in := range []policy.Incarnation{run(uuidA, 1), run(uuidA, 2)} {
					got, ok, reports := s.take(in)
					if ok || got != (Ticket{}) {
						t.Errorf("it lifts: %+v (%s)", got, tt.why)
					}
					s.assertReport(t, reports, tt.want)
				}
				list, reports := s.List(noon)
				s.assertReport(t, reports, tt.want)
				if part.name == "ticket" && len(list) > 0 || part.name == "claim" && (len(list) != 1 || list[0].State != Taken) {
					t.Errorf("listed: %+v", list)
				}
				if part.name == "claim" {
					s.assertReport(t, s.MarkUsed(run(uuidA, 1), noon), tt.want)
				}
				// What spoils one ticket spoils no other.
				next := s.mustGrant(t, single(uuidA))
				if got, ok, _ := s.take(run(uuidA, 3)); !ok || got != next {
					t.Errorf("another ticket does not pass: %v", ok)
				}
				if err := s.Revoke(granted.ID); err != nil && tt.name != "of_another_file" {
					t.Errorf("it cannot be removed: %v", err)
				}
			})
		}
	}
}

// assertReport asserts that one report contains the text; a further report about a file that is not
// a ticket may be there.
func (s Store) assertReport(t testing.TB, reports []error, want string) {
	t.Helper()
	n := 0
	for _, err := range reports {
		text := err.Error()
		if strings.Contains(text, want) {
			n++
		} else if !strings.Contains(text, "is no ticket; move away") {
			t.Errorf("unexpected report: %s", text)
		}
		if strings.Contains(text, "\n") || !strings.HasPrefix(text, "ticket: "+s.Root) || strings.Count(text, "; ") < 1 {
			t.Errorf("not of the form: %q", text)
		}
	}
	if n != 1 {
		t.Errorf("%q is said %d times: %q", want, n, join(reports))
	}
}

func TestFolder(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long")
	}
	path := func(s Store) string { return filepath.Join(s.Root, home) }
	fill := func(n int, name string) func(*testing.T, Store) {
		return func(t *testing.T, s Store) {
			for i := range n {
				f, err := os.OpenFile(filepath.Join(path(s), fmt.Sprintf(name, i)), os.O_CREATE|os.O_WRONLY, 0o600)
				must(t, err)
				f.Close()
			}
		}
	}
	tests := []struct {
		name  string
		spoil func(*testing.T, Store)
		takes bool   // whether the ticket in it passes
		want  string // the reports, with FOLDER and ROOT
		why   string
	}{
		{"missing", func(t *testing.T, s Store) { must(t, os.RemoveAll(path(s))) }, false, "", "no tickets is the common case"},
		{"missing_with_its_parents", func(t *testing.T, s Store) { must(t, os.RemoveAll(s.Root+"/var")) }, false, "", ""},
		{"of_a_missing_root", func(t *testing.T, s Store) { must(t, os.RemoveAll(s.Root)) }, false, "ticket: ROOT: the root folder is missing; create it, or name another root", "a misspelt root"},
		{"writable_by_everyone", func(t *testing.T, s Store) { must(t, os.Chmod(path(s), 0o777)) }, false, "ticket: FOLDER: is writable by everyone (mode 0777); chmod go-w FOLDER", "anybody may put a ticket there"},
		{"below_one_writable_by_everyone", func(t *testing.T, s Store) { must(t, os.Chmod(s.Root+"/var", 0o777)) }, false, "ticket: ROOT/var: is writable by everyone (mode 0777); chmod go-w ROOT/var", "or exchange the folder"},
		{"a_link", func(t *testing.T, s Store) {
			must(t, os.Rename(path(s), s.Root+"/tickets"))
			must(t, os.Symlink(s.Root+"/tickets", path(s)))
		}, false, "ticket: FOLDER: is a link, and links are not followed; put what it leads to in its place", ""},
		{"a_file", func(t *testing.T, s Store) {
			must(t, os.RemoveAll(path(s)))
			must(t, os.WriteFile(path(s), nil, 0o600))
		}, false, "ticket: FOLDER: is not a folder; move it away, or correct the path", ""},
		{"with_a_file_that_is_no_ticket", fill(1, "README%d"), true, "ticket: FOLDER/README0: is no ticket; move away what does not belong there", "said, and no more"},
		{"with_several", fill(3, "a\n%d"), true, `ticket: "FOLDER/a\n0": is no ticket, nor are 2 others beside it; move away what does not belong there`, "on one line, whatever their names"},
		{"with_a_claim_without_its_ticket", fill(1, "0123456789abcde%d.taken"), true, "", "what a killed Revoke leaves"},
		{"with_what_a_killed_process_left", fill(3, ".tmp-%d"), true, "", ""},
		{"with_what_is_no_file", func(t *testing.T, s Store) { must(t, os.Mkdir(path(s)+"/.tmp-", 0o700)) }, true, "", "whatever its name"},
		{"with_as_many_files_as_may_be", fill(maxNames-2, ".tmp-%d"), true, "", "with the claim, exactly as many"},
		{"with_more", fill(maxNames, ".tmp-%d"), false, "ticket: FOLDER: holds more than 20000 files, and so no ticket counts; revoke what is not needed, and move out what does not belong there", "bounded"},
		{"with_too_many_tickets", fill(maxTickets, "%016x.json"), false, "ticket: FOLDER: holds more than 1000 tickets, and so none counts; revoke what is not needed", "which of them is told must not depend on their order in the folder"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := empty(t)
			s.mustGrant(t, single(uuidA))
			tt.spoil(t, s)
			for range 2 {
				_, ok, reports := s.take(run(uuidA, 1))
				got := strings.NewReplacer(path(s), "FOLDER", s.Root, "ROOT").Replace(join(reports))
				if ok != tt.takes || got != tt.want {
					t.Errorf("passes %v\ngot  %s\nwant %s (%s)", ok, got, tt.want, tt.why)
				}
			}
		})
	}
	t.Run("full_of_tickets_takes_no_more", func(t *testing.T) {
		s := empty(t)
		s.mustGrant(t, single(uuidA))
		fill(maxTickets-1, "%016x.json")(t, s)
		_, err := s.Grant(single(uuidA), noon)
		if want := "ticket: " + path(s) + ": holds 1000 tickets already; revoke what is not needed"; err == nil || err.Error() != want {
			t.Error(err)
		}
		if _, ok, _ := s.take(run(uuidA, 1)); !ok {
			t.Error("those that are there must not suffer from one more")
		}
	})
}

func TestNothing_can_be_written(t *testing.T) {
	check := func(t *testing.T, s Store, o order, want string) {
		t.Helper()
		o.Do, o.Root, o.In = "take", s.Root, run(uuidA, 1)
		a, lived := alone(t, o)
		if !lived || a.OK || a.ID != "" || len(a.Reports) != 1 || !strings.Contains(a.Reports[0], want) {
			t.Errorf("want no ticket, and a report of %q: %+v", want, a)
		}
		if left := files(t, s); len(left) != 1 {
			t.Errorf("left behind: %v", left)
		}
		// Who holds it already needs no writing.
		if _, ok, reports := s.take(run(uuidA, 1)); !ok {
			t.Fatal(reports)
		}
		if a, _ := alone(t, o); !a.OK {
			t.Errorf("what it holds does not pass: %+v", a)
		}
	}
	t.Run("because_the_disk_is_full:_nothing_passes_and_that_is_said", func(t *testing.T) {
		s := empty(t)
		s.mustGrant(t, single(uuidA))
		check(t, s, order{FileSize: true}, "file too large; correct this")
		if a, _ := alone(t, order{Do: "grant", Root: s.Root, Ticket: single(uuidA), FileSize: true}); a.OK {
			t.Error("granted")
		}
	})
	t.Run("because_the_user_may_only_read:_nothing_passes_and_that_is_said", func(t *testing.T) {
		s := readable(t)
		granted := s.mustGrant(t, single(uuidA))
		open := func() {
			must(t, os.Chmod(filepath.Join(s.Root, home), 0o755))
			for name := range files(t, s) {
				must(t, os.Chmod(filepath.Join(s.Root, home, name), 0o644))
			}
		}
		open()
		o := order{Do: "take", Root: s.Root, In: run(uuidA, 1), UID: 4242}
		if a, _ := alone(t, o); a.OK || len(a.Reports) != 1 || !strings.Contains(a.Reports[0], "permission denied; run as root") {
			t.Errorf("%+v", a)
		}
		s.take(run(uuidA, 1))
		open()
		if a, _ := alone(t, o); !a.OK || a.ID != granted.ID {
			t.Errorf("%+v", a)
		}
	})
	t.Run("or_read_by_another_user:_nothing_passes_and_that_is_said", func(t *testing.T) {
		s := readable(t)
		s.mustGrant(t, single(uuidA))
		a, _ := alone(t, order{Do: "take", Root: s.Root, In: run(uuidA, 1), UID: 4242})
		if a.OK || len(a.Reports) != 1 || !strings.Contains(a.Reports[0], "permission denied; run as root") {
			t.Errorf("%+v", a)
		}
	})
}

// readable is a store below a folder that other users reach.
func readable(t *testing.T) Store {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("takes root")
	}
	root, err := os.MkdirTemp("", "stopguard")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(root) })
	must(t, os.Chmod(root, 0o755))
	return at(root, bootA, 1000)
}
