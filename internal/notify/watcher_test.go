package notify

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stopguard/stopguard/internal/definition"
	"github.com/stopguard/stopguard/internal/gate/unit"
	"github.com/stopguard/stopguard/internal/hostpath"
	"github.com/stopguard/stopguard/internal/testhost"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/record"
	"github.com/stopguard/stopguard/policy/ticket"
)

const (
	uuid1 = "16e14a01-2b11-40de-a128-75e3f4a5fe12"
	uuid2 = "26e14a01-2b11-40de-a128-75e3f4a5fe12"
)

var noon = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

// A change of a domain's marks, and what is told of it.
func TestCompare(t *testing.T) {
	t.Parallel()
	var never time.Time
	soon, late := noon.Add(time.Hour), noon.Add(24*time.Hour)
	plain := marks{"stop": never, "delete": never}
	for _, tt := range []struct {
		why           string
		before, after domain
		want          string // what, from where, which operations
	}{
		{"nothing changed", domain{Running: plain, Defined: plain}, domain{Running: plain, Defined: plain}, ""},
		{"removed from both", domain{Running: plain, Defined: plain}, domain{Running: marks{}, Defined: marks{}}, "mark_removed running,definition stop,delete"},
		{"removed while it runs", domain{Running: plain, Defined: plain}, domain{Running: marks{}, Defined: plain}, "mark_removed running stop,delete"},
		{"removed for the next start", domain{Running: plain, Defined: plain}, domain{Running: plain, Defined: marks{}}, "mark_removed definition stop,delete"},
		{"it was shut off", domain{Running: plain, Defined: plain}, domain{Defined: plain}, ""},
		{"it was started", domain{Defined: plain}, domain{Running: plain, Defined: plain}, ""},
		{"it was started without its mark", domain{Defined: plain}, domain{Running: marks{}, Defined: plain}, ""},
		{"a mark of the running domain ends with it", domain{Running: plain, Defined: marks{}}, domain{Defined: marks{}}, "mark_removed running stop,delete"},
		{"it was undefined while it runs", domain{Running: plain, Defined: plain}, domain{Running: plain}, ""},
		{"it was undefined, and only the definition had the mark", domain{Running: marks{}, Defined: plain}, domain{Running: marks{}}, "mark_removed definition stop,delete"},
		{"it is gone", domain{Running: plain, Defined: plain}, domain{}, "mark_removed running,definition stop,delete"},
		{"narrowed", domain{Defined: plain}, domain{Defined: marks{"stop": never}}, "mark_narrowed definition delete"},
		{"widened", domain{Defined: plain}, domain{Defined: marks{"stop": never, "delete": never, "modify": never}}, ""},
		{"it had lapsed", domain{Defined: marks{"stop": noon.Add(-time.Hour)}}, domain{Defined: marks{}}, ""},
		{"it lapses at this moment", domain{Defined: marks{"stop": noon}}, domain{Defined: marks{}}, ""},
		{"it has an end now", domain{Defined: plain}, domain{Defined: marks{"stop": soon, "delete": never}}, "mark_narrowed definition stop"},
		{"it ends sooner", domain{Defined: marks{"stop": late}}, domain{Defined: marks{"stop": soon}}, "mark_narrowed definition stop"},
		{"it ends later", domain{Defined: marks{"stop": soon}}, domain{Defined: marks{"stop": late}}, ""},
		{"it has no end any more", domain{Defined: marks{"stop": soon}}, domain{Defined: marks{"stop": never}}, ""},
		{"one is gone and one ends sooner", domain{Defined: plain}, domain{Defined: marks{"stop": soon}}, "mark_narrowed definition delete,stop"},
	} {
		e, has := compare(tt.before, tt.after, noon)
		got := ""
		if has {
			got = e.What + " " + strings.Join(e.RemovedFrom, ",") + " " + strings.Join(e.Operations, ",")
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.why, got, tt.want)
		}
	}
}

const (
	mark       = `<p:protection xmlns:p="urn:stopguard:protection:1" reason="r"/>`
	markOfStop = `<p:protection xmlns:p="urn:stopguard:protection:1" reason="r" operations="stop"/>`
)

// define writes a domain's definition as libvirt does: as another file in its place.
func (s *site) define(name, uuid, metadata string) {
	s.t.Helper()
	path := filepath.Join(s.root, "/etc/libvirt/qemu", name+".xml")
	testhost.Put(s.t, s.root, path[len(s.root):]+".new", fmt.Sprintf("<!--\nWARNING\n-->\n<domain type='kvm'><name>%s</name><uuid>%s</uuid><metadata>%s</metadata><memory unit='KiB'>1024</memory></domain>", name, uuid, metadata))
	if err := os.Rename(path+".new", path); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) remove(name string) {
	s.t.Helper()
	if err := os.Remove(filepath.Join(s.root, name)); err != nil {
		s.t.Fatal(err)
	}
}

// expect waits until exactly one more event was told, and compares it.
func (s *site) expect(why string, want Event) {
	s.t.Helper()
	s.seen++
	got := s.waitFor(s.seen)
	last := got[len(got)-1]
	text := last.Text
	last.ID, last.Host, last.Time, last.Text = "", "", time.Time{}, ""
	if want.Ticket == "*" {
		want.Ticket = last.Ticket
	}
	if want.Until.IsZero() {
		last.Until = time.Time{}
	}
	wantText := want.Text
	want.Text = ""
	if diff := cmp.Diff(want, last); diff != "" || len(got) != s.seen || !strings.Contains(text, wantText) {
		s.t.Errorf("%s: %d events, not %d; %q (-want +got):\n%s", why, len(got), s.seen, text, diff)
		s.seen = len(got)
	}
}

// Each way in which protection goes is told once, while the notifier runs and after its start.
func TestEachWayInWhichProtectionGoesIsToldOnce(t *testing.T) {
	t.Parallel()
	for _, restarted := range []bool{false, true} {
		t.Run(fmt.Sprintf("restarted_%v", restarted), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, appendLine)
			s.define("pg-01", uuid1, mark)
			s.define("pg-02", uuid2, mark)
			testhost.Put(t, s.root, hostpath.List, "web-01\nweb-02 # by day\n", hostpath.Hook, "#!/bin/sh\n")
			move := unit.Monolithic.Move().Path
			testhost.Put(t, s.root, move, "")
			if err := os.Chmod(filepath.Join(s.root, hostpath.Hook), 0o755); err != nil {
				t.Fatal(err)
			}
			gate, err := RunGate(s.root)
			if err != nil {
				t.Fatal(err)
			}
			s.start(quick)
			// do changes the host, while the notifier runs, or between two.
			do := func(why string, change func(), want Event) {
				t.Helper()
				if restarted {
					s.Stop(0)
				}
				change()
				if restarted {
					s.start(quick)
				}
				s.expect(why, want)
			}
			refused := []string{"stop", "delete"}
			do("narrowed", func() { s.define("pg-01", uuid1, markOfStop) },
				Event{What: MarkNarrowed, Name: "pg-01", UUID: uuid1, Operations: refused[1:], RemovedFrom: []string{"definition"}, Text: "pg-01: its protection mark refuses less: no longer delete"})
			do("removed", func() { s.define("pg-01", uuid1, "") },
				Event{What: MarkRemoved, Name: "pg-01", UUID: uuid1, Operations: refused[:1], RemovedFrom: []string{"definition"}, Text: "was removed"})
			do("undefined", func() { s.remove("/etc/libvirt/qemu/pg-02.xml") },
				Event{What: MarkRemoved, Name: "pg-02", UUID: uuid2, Operations: refused, RemovedFrom: []string{"definition"}, DomainGone: true, Text: "has gone with the domain"})
			do("off the list", func() { testhost.Put(t, s.root, hostpath.List, "web-02\n") },
				Event{What: ListRemoved, Entries: []string{"web-01"}, Count: 1, Text: "web-01"})
			do("no list", func() { s.remove(hostpath.List) },
				Event{What: ListRemoved, Entries: []string{"web-02"}, Count: 1})
			var granted ticket.Ticket
			do("a ticket", func() {
				now := time.Now()
				granted, err = ticket.Store{Root: s.root}.Grant(ticket.Ticket{Domain: uuid1, Reason: "drain", Requester: "anna", Operation: "stop", NotAfter: now.Add(time.Hour)}, now)
				if err != nil {
					t.Fatal(err)
				}
			}, Event{What: TicketGranted, UUID: uuid1, Operations: refused[:1], Person: "anna", Reason: "drain", Ticket: "*", Text: "was granted by anna: drain"})
			used := s.record(record.Allow, "", &record.Ticket{ID: granted.ID, Requester: "anna", Reason: "drain"})
			do("a ticket is used", func() { s.write(used) },
				Event{What: TicketUsed, Name: "pg-01", UUID: uuid1, Operations: refused[:1], Ticket: granted.ID, Person: "anna", Reason: "drain", DecisionID: used.DecisionID, Text: "pg-01: a stop was let through by the ticket of anna"})
			again := s.record(record.Allow, "", &record.Ticket{ID: granted.ID, Requester: "anna", Reason: "drain"})
			s.write(again) // the hook's, after the gate's
			escape := s.record(record.Escape, "its guest shut down", nil)
			do("an escape", func() { s.write(escape) },
				Event{What: Escape, Name: "pg-01", UUID: uuid1, Reason: "its guest shut down", DecisionID: escape.DecisionID, Text: "went down past the guard"})
			do("the gate is off", func() { testhost.Put(t, s.root, hostpath.GateOff, "") }, Event{What: GateOff, Text: "the gate was switched off"})
			do("the hook is off", func() {
				if err := os.Chmod(filepath.Join(s.root, hostpath.Hook), 0o644); err != nil {
					t.Fatal(err)
				}
			}, Event{What: HookOff, Text: "the hook was switched off"})
			do("the gate has ended", func() { gate.End() }, Event{What: GateStopped, Text: "the gate was stopped, or has ended"})
			do("the gate is taken away", func() { s.remove(move) }, Event{What: GateOff, Text: "was taken out of libvirt's way"})

			// A change that protects more is not an event.
			s.define("pg-01", uuid1, mark)
			testhost.Put(t, s.root, hostpath.List, "web-01\nweb-02\n")
			if err := errors.Join(os.Chmod(filepath.Join(s.root, hostpath.Hook), 0o755), os.Remove(filepath.Join(s.root, hostpath.GateOff))); err != nil {
				t.Fatal(err)
			}
			s.write(s.record(record.Veto, "", nil))
			testhost.Put(t, s.root, move, "")
			s.settle()
			do("removed once more", func() { s.define("pg-01", uuid1, "") },
				Event{What: MarkRemoved, Name: "pg-01", UUID: uuid1, Operations: refused, RemovedFrom: []string{"definition"}})
			seen := map[string]bool{}
			for _, e := range s.got() {
				if seen[e.ID] {
					t.Errorf("the ID of %+v is there twice", e)
				}
				seen[e.ID] = true
			}
		})
	}
}

// settle waits until the notifier has seen the host as it is: an entry that comes and goes is told.
func (s *site) settle() {
	s.t.Helper()
	list := filepath.Join(s.root, hostpath.List)
	text, err := os.ReadFile(list)
	if err != nil {
		s.t.Fatal(err)
	}
	testhost.Put(s.t, s.root, hostpath.List, string(text)+"settled\n")
	s.eventually("the entry is seen", func() bool {
		state, _ := os.ReadFile(queue{s.root}.path(stateName))
		return strings.Contains(string(state), `"settled"`)
	})
	testhost.Put(s.t, s.root, hostpath.List, string(text))
	s.expect("the host is seen", Event{What: ListRemoved, Entries: []string{"settled"}, Count: 1})
}

// record returns an event of the record.
func (s *site) record(outcome, detail string, t *record.Ticket) record.Event {
	e := record.New("kvm-07", record.Domain{Name: "pg-01", UUID: uuid1, PID: 7, Start: 8}, noon)
	e.Result.Outcome, e.Result.Detail, e.Result.Ticket = outcome, detail, t
	e.Input = map[string]any{"domain": map[string]any{"title": `"outcome":"escape" "ticket":{`}}
	return e
}

func (s *site) write(e record.Event) {
	s.t.Helper()
	if err := (record.Recorder{Root: s.root}).Write(context.Background(), e); err != nil {
		var journal *record.JournalError
		if !errors.As(err, &journal) {
			s.t.Fatal(err)
		}
	}
}

// A mark's owner writes its end, which must not keep what other marks lose from being told.
func TestAMarkForGoodSilencesNoEvent(t *testing.T) {
	t.Parallel()
	s := newSite(t, appendLine)
	s.define("web-01", uuid1, `<p:protection xmlns:p="urn:stopguard:protection:1" reason="r" until="9999-12-31"/>`)
	s.define("pg-01", uuid2, mark)
	s.start(quick)
	s.define("pg-01", uuid2, `<p:protection xmlns:p="urn:stopguard:protection:1" reason="r" until="9999-12-31T23:59:59-12:00"/>`)
	s.expect("it has an end now", Event{What: MarkNarrowed, Name: "pg-01", UUID: uuid2, Operations: []string{"stop", "delete"}, RemovedFrom: []string{"definition"}})
	s.define("pg-01", uuid2, "")
	s.expect("the mark is gone", Event{What: MarkRemoved, Name: "pg-01", UUID: uuid2, Operations: []string{"stop", "delete"}, RemovedFrom: []string{"definition"}})
}

// A file that cannot be read is not an event. If the mark is gone when the file can be read again,
// that is one.
func TestWhatCannotBeReadIsNotGone(t *testing.T) {
	t.Parallel()
	s := newSite(t, appendLine)
	s.define("pg-01", uuid1, mark)
	testhost.Put(t, s.root, hostpath.List, "web-01\n")
	s.start(quick)
	testhost.Put(t, s.root, "/etc/libvirt/qemu/pg-01.xml", "<domain><name>pg-")
	testhost.Put(t, s.root, hostpath.List, "web-01\xff\n")
	s.eventually("it is logged", func() bool {
		return strings.Contains(s.log.String(), "invalid UTF-8") && strings.Contains(s.log.String(), "the marks of pg-01: domainxml: line 1, ")
	})
	if got := s.got(); len(got) > 0 {
		t.Errorf("%+v", got)
	}
	s.define("pg-01", uuid1, `<x xmlns="urn:x">`+strings.Repeat("<a>", 300)+strings.Repeat("</a>", 300)+"</x>") // metadata that cannot be read
	testhost.Put(t, s.root, hostpath.List, "web-01\n")
	testhost.Put(t, s.root, hostpath.List, "\n")
	s.expect("the list", Event{What: ListRemoved, Entries: []string{"web-01"}, Count: 1})
	s.define("pg-01", uuid1, "")
	s.expect("the mark", Event{What: MarkRemoved, Name: "pg-01", UUID: uuid1, Operations: []string{"stop", "delete"}, RemovedFrom: []string{"definition"}})
}

// A folder or files that cannot be read take no mark away, and what goes meanwhile is told as soon
// as they can be read. Only their owner and mode may change then.
func TestDefinitionsThatCannotBeReadAreNotGone(t *testing.T) {
	for _, tt := range []struct {
		why, logged string
		hide, show  func(s *site, folder string) error
	}{
		{"a file for the folder", "the defined domains cannot be listed: ",
			func(s *site, folder string) error {
				return errors.Join(os.Rename(folder, folder+"-away"), os.WriteFile(folder, nil, 0o600))
			},
			func(s *site, folder string) error {
				return errors.Join(os.Remove(folder), os.Rename(folder+"-away", folder))
			}},
		{"others may write the folder above", "the marks of pg-01 and of 1 more: ",
			func(s *site, folder string) error { return os.Chmod(filepath.Dir(folder), 0o777) },
			func(s *site, folder string) error { return os.Chmod(filepath.Dir(folder), 0o755) }},
	} {
		t.Run(tt.why, func(t *testing.T) {
			s := newSite(t, appendLine)
			folder := filepath.Join(s.root, definition.Folder)
			s.define("pg-01", uuid1, mark)
			s.define("pg-02", uuid2, mark)
			s.start(quick)
			if err := tt.hide(s, folder); err != nil {
				t.Fatal(err)
			}
			s.eventually("it is logged", func() bool { return strings.Contains(s.log.String(), tt.logged) })
			if got := s.got(); len(got) > 0 {
				t.Errorf("%+v", got)
			}
			if err := tt.show(s, folder); err != nil {
				t.Fatal(err)
			}
			s.define("pg-01", uuid1, "")
			s.expect("the mark", Event{What: MarkRemoved, Name: "pg-01", UUID: uuid1, Operations: []string{"stop", "delete"}, RemovedFrom: []string{"definition"}})
		})
	}
}

// The cause for which a domain could not be read, such as too many open files, may be gone although
// no file has changed.
func TestADomainThatCouldNotBeReadIsReadAgain(t *testing.T) {
	t.Parallel()
	s := newSite(t, appendLine)
	s.define("pg-01", uuid1, mark)
	w := &watcher{root: s.root}
	now := &state{Domains: map[string]domain{}}
	look := func() []Event {
		events, _ := w.seeDomains(now, noon)
		return events
	}
	look()
	s.define("pg-01", uuid1, "")
	w.domains.stamp = stampOf(s.root)
	w.domains.unread = map[string]error{"pg-01": errors.New("too many open files")}
	if got := look(); len(got) != 1 || got[0].What != MarkRemoved {
		t.Errorf("%+v", got)
	}
}

// A copy of a definition neither stands for the domain, nor keeps what it loses from being told.
func TestACopyOfADefinitionHidesNothing(t *testing.T) {
	s := newSite(t, appendLine)
	s.define("pg-01", uuid1, mark)
	testhost.Put(t, s.root, hostpath.List, "web-01\n")
	copied := filepath.Join(s.root, definition.Folder, "zz.xml")
	text, err := os.ReadFile(filepath.Join(s.root, definition.Folder, "pg-01.xml"))
	if err = errors.Join(err, os.WriteFile(copied, text, 0o600), os.WriteFile(filepath.Join(filepath.Dir(copied), ".xml"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	s.start(quick)
	s.eventually("it is logged", func() bool { return strings.Contains(s.log.String(), `the marks of ".xml" and of 1 more: `) })
	s.define("pg-01", uuid1, "")
	s.expect("the mark", Event{What: MarkRemoved, Name: "pg-01", UUID: uuid1, Operations: []string{"stop", "delete"}, RemovedFrom: []string{"definition"}})
	s.define("pg-02", uuid2, mark)
	s.settle()
	s.remove(definition.Folder + "/pg-02.xml")
	s.expect("the domain", Event{What: MarkRemoved, Name: "pg-02", UUID: uuid2, Operations: []string{"stop", "delete"}, RemovedFrom: []string{"definition"}, DomainGone: true})
}

// A state that cannot be read is replaced, so that what goes from then on is told.
func TestADamagedStateIsReplaced(t *testing.T) {
	t.Parallel()
	s := newSite(t, appendLine)
	testhost.Put(t, s.root, hostpath.List, "web-01\nweb-02\n", home+"/"+stateName, "{")
	if err := os.Chmod(filepath.Join(s.root, home), 0o700); err != nil {
		t.Fatal(err)
	}
	s.start(quick)
	s.eventually("it is logged", func() bool { return strings.Contains(s.log.String(), "is not as it was written") })
	testhost.Put(t, s.root, hostpath.List, "web-01\n")
	s.expect("an entry", Event{What: ListRemoved, Entries: []string{"web-02"}, Count: 1})
}

// An owner's text is told, and cannot pass for another line or for a terminal's command.
func TestAnOwnersTextIsOneLine(t *testing.T) {
	t.Parallel()
	s := newSite(t, appendLine)
	s.start(quick)
	s.Tell(Event{What: Escape, Name: "a\n{\"what\":\"lost\"}\x1b[31m\u202e", Reason: strings.Repeat("é", 500), Text: strings.Repeat("x", 5000)}, "x")
	e := s.waitFor(1)[0]
	if e.Name != "a\uFFFD{\"what\":\"lost\"}\uFFFD[31m\uFFFD" || e.Reason != strings.Repeat("é", 100) || len(e.Text) != 600 {
		t.Errorf("%+v", e)
	}
}

// A site that names no program is not watched, and nothing is kept for it.
func TestWithoutAProgramNothingIsKept(t *testing.T) {
	t.Parallel()
	s := newSite(t, `exit 1`)
	s.start(quick)
	s.tell(3)
	s.settings.Store(nil)
	q := queue{s.root}
	s.eventually("it is cleared", func() bool { return s.Stats().Waiting == 0 && !s.status().Runs })
	s.tell(3)
	if _, err := os.Stat(q.path(stateName)); s.Stats().Waiting != 0 || !errors.Is(err, os.ErrNotExist) {
		t.Error(s.Stats(), err)
	}
}

// Records are read on across every way of rotating them.
func TestTheRecordIsReadOnWhenItIsRotated(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	path := filepath.Join(root, record.File)
	s := &site{t: t, root: root}
	var got []string
	var at position
	look := func(why string, want ...string) {
		t.Helper()
		got = nil
		var err error
		if at, err = readRecords(root, at, func(d decision) { got = append(got, d.Result.Detail) }); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", why, diff)
		}
	}
	escape := func(detail string) { s.write(s.record(record.Escape, detail, nil)) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	look("no file")
	escape("1")
	look("the first", "1")
	look("nothing new")
	escape("2")
	must(os.Rename(path, path+".1"))
	look("it was rotated, and nothing was written since", "2")
	look("once")
	escape("3")
	look("the new one", "3")
	escape("4")
	must(os.Rename(path, path+".1"))
	escape("5")
	look("written on both sides", "4", "5")
	escape("6")
	must(os.Rename(path, path+"-20261128")) // as logrotate does with dateext
	escape("7")
	look("under another name", "6", "7")
	escape("8")
	must(os.Rename(path, path+".2"))
	must(os.Remove(path + ".2"))
	escape("9")
	look("what was removed is lost", "9")
	must(os.Truncate(path, 0))
	escape("10")
	look("as logrotate does with copytruncate", "10")
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	must(err)
	_, err = f.WriteString(`{"result":{"outcome":"escape","detail":"to`)
	must(err)
	look("half a line")
	_, err = f.WriteString("rn\"}}\n")
	must(errors.Join(err, f.Close()))
	look("the other half", "torn")
	s.write(s.record(record.Allow, "", nil)) // whose owner wrote what an escape has
	look("an owner's text is no escape")
}

// A host whose site names no program has no folder for it.
func TestASiteWithoutAProgramHasNoFolder(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	var looked atomic.Int32
	n := Start(Config{
		Root: root, Settings: func() (*policy.Notify, error) { looked.Add(1); return nil, nil },
		Log: t.Logf, timing: &timing{pace: time.Millisecond},
	})
	for looked.Load() < 3 {
		time.Sleep(time.Millisecond)
	}
	n.Stop(0)
	if files, err := os.ReadDir(root); err != nil || len(files) > 0 {
		t.Error(files, err)
	}
}
