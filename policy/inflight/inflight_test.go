package inflight

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/stopguard/stopguard/internal/procstat"
	"github.com/stopguard/stopguard/internal/testhost"
	"github.com/stopguard/stopguard/policy"
)

const (
	uuidA = "0f3c8a52-6d0e-4c1b-9a77-3b2f4de81c05"
	uuidB = "c7b1d9a0-2e44-4f0a-8d33-91e07a5f6b12"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// host makes a root folder, whatever the umask.
func host(t testing.TB) string {
	t.Helper()
	root := t.TempDir()
	must(t, os.Chmod(root, 0o755))
	return root
}

func lock(t testing.TB, root string) *Ledger {
	t.Helper()
	l, err := Lock(t.Context(), root)
	must(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

// process returns the incarnation of a living process.
func process(t testing.TB, uuid string, pid int) policy.Incarnation {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	must(t, err)
	start, ok := procstat.StartTime(string(data))
	if !ok {
		t.Fatalf("no start time in %q", data)
	}
	return policy.Incarnation{UUID: uuid, PID: pid, Start: start}
}

func self(t testing.TB, uuid string) policy.Incarnation {
	t.Helper()
	return process(t, uuid, os.Getpid())
}

// order is what a child process shall do: with Crash "", decide on a stop of one of the members.
type order struct {
	Root    string
	Members []policy.Incarnation
	Minimum int
	Stop    int    // index of the member to stop
	Crash   string // holding: it waits with the lock; else at which point it kills itself
	Sleep   bool   // be a process that does nothing until it is killed
}

func TestMain(m *testing.M) {
	var o order
	if testhost.Ordered(&o) {
		o.obey()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func (o order) obey() {
	testhost.Ready()
	if o.Sleep {
		select {}
	}
	if o.Crash != "" {
		step = func(point string) {
			if point == o.Crash {
				syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	l, err := Lock(ctx, o.Root)
	if err != nil {
		fmt.Println(err)
		return
	}
	if o.Crash == "holding" {
		fmt.Println("holding")
		time.Sleep(time.Hour)
	}
	left := 0
	for i, m := range o.Members {
		if i != o.Stop && !l.Has(m) {
			left++
		}
	}
	if left < o.Minimum {
		fmt.Println("veto")
	} else if err := l.Add(o.Members[o.Stop]); err != nil {
		fmt.Println(err)
	} else {
		fmt.Println("allowed")
	}
	l.Close()
}

// sleepers are processes that live until the test ends: the members of a group.
func sleepers(t testing.TB, n int) (members []policy.Incarnation, children []*testhost.Child) {
	t.Helper()
	for i := range n {
		c := testhost.Start(t, order{Sleep: true})
		children = append(children, c)
		members = append(members, process(t, fmt.Sprintf("%08x-0000-4000-8000-000000000000", i+1), c.PID()))
	}
	testhost.Release(t, children...)
	return members, children
}

func TestRace_of_64_processes_never_leaves_fewer_than_the_minimum(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long")
	}
	const processes = 64
	for _, tt := range []struct {
		members, minimum int
		why              string
	}{
		{2, 1, "the last but one"},
		{6, 2, "several may go, and then no more"},
		{3, 3, "none may go"},
	} {
		t.Run(fmt.Sprintf("%d_of_%d", tt.minimum, tt.members), func(t *testing.T) {
			root := host(t)
			members, _ := sleepers(t, tt.members)
			var children []*testhost.Child
			for i := range processes {
				children = append(children, testhost.Start(t, order{Root: root, Members: members, Minimum: tt.minimum, Stop: i % tt.members}))
			}
			testhost.Release(t, children...)
			going := map[int]bool{}
			for i, c := range children {
				switch said := c.Says(t); said {
				case "allowed":
					going[i%tt.members] = true
				case "veto":
				default:
					t.Errorf("process %d says %q", i, said)
				}
			}
			if left := tt.members - len(going); left != tt.minimum {
				t.Errorf("%d are left, want %d (%s)", left, tt.minimum, tt.why)
			}
		})
	}
}

func TestLock(t *testing.T) {
	t.Run("of_a_killed_process_is_free", func(t *testing.T) {
		root := host(t)
		for range 10 {
			c := testhost.Start(t, order{Root: root, Crash: "holding"})
			testhost.Release(t, c)
			if said := c.Says(t); said != "holding" {
				t.Fatal(said)
			}
			c.Kill()
			lock(t, root).Close()
		}
	})
	t.Run("of_a_process_killed_while_it_adds_is_free_and_the_entry_whole_or_missing", func(t *testing.T) {
		for _, tt := range []struct {
			point string
			has   bool
		}{{"entry written", false}, {"entry there", true}} {
			root := host(t)
			members, _ := sleepers(t, 1)
			c := testhost.Start(t, order{Root: root, Members: members, Crash: tt.point})
			testhost.Release(t, c)
			if said := c.Says(t); said != "" {
				t.Fatalf("it was not killed: %q", said)
			}
			l := lock(t, root)
			if got := l.Has(members[0]); got != tt.has || len(l.Reports()) > 0 {
				t.Errorf("%s: has %v, want %v; %v", tt.point, got, tt.has, l.Reports())
			}
			must(t, l.Add(members[0])) // over what the killed one left
			must(t, l.Close())
		}
	})
	t.Run("waits_no_longer_than_its_context", func(t *testing.T) {
		root := host(t)
		held := lock(t, root)
		for _, wait := range []time.Duration{0, 50 * time.Millisecond} {
			before := time.Now() // ahead of the context, whose time runs from when it is made
			ctx, cancel := context.WithTimeout(t.Context(), wait)
			l, err := Lock(ctx, root)
			took := time.Since(before)
			cancel()
			want := "underway: " + filepath.Join(root, home, "lock") + ": no lock in time, for other stops are being decided; try again"
			if l != nil || err == nil || err.Error() != want || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v, want %s", err, want)
			}
			if took < wait || took > wait+5*time.Second { // the upper bound is for one that waits for the lock
				t.Errorf("took %v, want %v", took, wait)
			}
		}
		must(t, held.Close())
		must(t, lock(t, root).Close())
	})
	t.Run("waits_until_it_is_free", func(t *testing.T) {
		root := host(t)
		held := lock(t, root)
		freed := make(chan error, 1)
		go func() {
			time.Sleep(30 * time.Millisecond)
			freed <- held.Close()
		}()
		lock(t, root)
		must(t, <-freed)
	})
	t.Run("is_not_had_by_a_context_that_is_done", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := Lock(ctx, host(t)); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	t.Run("that_somebody_removed_is_taken_anew", func(t *testing.T) {
		root := host(t)
		held := lock(t, root)
		waiting := make(chan error)
		go func() {
			l, err := Lock(t.Context(), root)
			if err == nil {
				l.Close()
			}
			waiting <- err
		}()
		must(t, os.Remove(filepath.Join(root, home, "lock")))
		must(t, <-waiting)
		must(t, held.Close())
	})
	t.Run("that_somebody_removed_once_it_was_opened_is_not_had_twice", func(t *testing.T) {
		root := host(t)
		defer func() { step = func(string) {} }()
		step = func(string) {
			step = func(string) {}
			must(t, os.Remove(filepath.Join(root, home, "lock")))
			lock(t, root)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		defer cancel()
		if _, err := Lock(ctx, root); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("two have it: %v", err)
		}
	})
	t.Run("is_closed_once_and_adds_nothing_afterwards", func(t *testing.T) {
		root := host(t)
		l := lock(t, root)
		must(t, l.Close())
		must(t, l.Close())
		if err := l.Add(self(t, uuidA)); err == nil || err.Error() != "underway: the ledger is closed; add before closing it" {
			t.Error(err)
		}
		// The number of its descriptor may be reused by now.
		again := lock(t, root)
		must(t, l.Close())
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		defer cancel()
		if _, err := Lock(ctx, root); err == nil {
			t.Error("a ledger that is closed once more frees the lock of another")
		}
		must(t, again.Close())
	})
	t.Run("keeps_no_descriptors", func(t *testing.T) {
		root := host(t)
		count := func() int {
			list, err := os.ReadDir("/proc/self/fd")
			must(t, err)
			return len(list)
		}
		lock(t, root).Close()
		before := count()
		for range 10 {
			l := lock(t, root)
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			Lock(ctx, root)
			cancel()
			must(t, l.Close())
		}
		if after := count(); after > before {
			t.Errorf("%d descriptors, then %d", before, after)
		}
	})
}

func TestLock_needs_a_folder_that_is_of_nobody_else(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(t *testing.T, root string)
		want  string // with ROOT and FOLDER
	}{
		{"missing_root", func(t *testing.T, root string) { must(t, os.RemoveAll(root)) }, "underway: ROOT: the root folder is missing; create it, or name another root"},
		{"writable_by_everyone", func(t *testing.T, root string) { must(t, os.Chmod(root+home, 0o777)) }, "underway: FOLDER: is writable by everyone (mode 0777); chmod go-w FOLDER"},
		{"below_one_writable_by_everyone", func(t *testing.T, root string) { must(t, os.Chmod(root+"/run", 0o777)) }, "underway: ROOT/run: is writable by everyone (mode 0777); chmod go-w ROOT/run"},
		{"a_link", func(t *testing.T, root string) {
			must(t, os.Rename(root+home, root+"/x"))
			must(t, os.Symlink("../../x", root+home))
		}, "underway: FOLDER: is a link, and links are not followed; put what it leads to in its place"},
		{"a_lock_that_is_a_link", func(t *testing.T, root string) {
			must(t, os.Remove(root+home+"/lock"))
			must(t, os.Symlink("x", root+home+"/lock"))
		}, "underway: FOLDER/lock: is a link, and links are not followed; put what it leads to in its place"},
		{"a_lock_that_is_a_FIFO", func(t *testing.T, root string) {
			must(t, os.Remove(root+home+"/lock"))
			must(t, unix.Mkfifo(root+home+"/lock", 0o600))
		}, "underway: FOLDER/lock: is a FIFO, not a regular file; put a regular file in its place"},
		{"too_full", func(t *testing.T, root string) {
			// Links of one file take a hundredth of the time of as many files.
			for i := range maxNames {
				must(t, os.Link(root+home+"/lock", fmt.Sprintf("%s%s/%d", root, home, i)))
			}
		}, "underway: FOLDER: holds more than 10000 files; move out what does not belong there"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := host(t)
			lock(t, root).Close()
			tt.spoil(t, root)
			l, err := Lock(t.Context(), root)
			if l != nil || err == nil {
				t.Fatal("locked")
			}
			if got := strings.NewReplacer(root+home, "FOLDER", root, "ROOT").Replace(err.Error()); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestAdd_lasts_until_the_process_ends(t *testing.T) {
	root := host(t)
	members, children := sleepers(t, 2)
	l := lock(t, root)
	for _, m := range members {
		if l.Has(m) {
			t.Error("has what nobody added")
		}
		must(t, l.Add(m))
		must(t, l.Add(m))
		if !l.Has(m) {
			t.Error("has not what was added")
		}
	}
	must(t, l.Close())
	children[0].Kill()
	l = lock(t, root)
	for i, m := range members {
		if got, want := l.Has(m), i == 1; got != want {
			t.Errorf("member %d: %v", i, got)
		}
		_, err := os.Lstat(filepath.Join(root, home, m.UUID))
		if there := !errors.Is(err, fs.ErrNotExist); there != (i == 1) {
			t.Errorf("the file of member %d is there: %v", i, there)
		}
	}
	must(t, l.Close())
	// The same PID with another start time is another process.
	must(t, os.WriteFile(filepath.Join(root, home, members[1].UUID), fmt.Appendf(nil, "%d %d\n", members[1].PID, members[1].Start-1), 0o600))
	if l = lock(t, root); l.Has(members[1]) {
		t.Error("has what is stale")
	}
}

func TestAdd(t *testing.T) {
	in := self(t, uuidA)
	with := func(f func(*policy.Incarnation)) policy.Incarnation {
		in := in
		f(&in)
		return in
	}
	const unknown = "underway: the process of domain " + uuidA + " is not known, and so not when its stop will be over; stop it when nobody relies on it being counted"
	tests := []struct {
		name string
		in   policy.Incarnation
		want string // of the error
		why  string
	}{
		{"plain", in, "", ""},
		{"in_capitals", with(func(in *policy.Incarnation) { in.UUID = strings.ToUpper(in.UUID) }), "", "the same UUID"},
		{"without_hyphens", with(func(in *policy.Incarnation) { in.UUID = strings.ReplaceAll(in.UUID, "-", "") }), "", "the same UUID"},
		{"without_a_PID", with(func(in *policy.Incarnation) { in.PID = 0 }), unknown, "when would it end?"},
		{"without_a_start_time", with(func(in *policy.Incarnation) { in.Start = 0 }), unknown, "nor can this be told from the next of its PID"},
		{"of_a_negative_PID", with(func(in *policy.Incarnation) { in.PID = -1 }), unknown, "kill(-1) is everybody"},
		{"of_a_PID_beyond_all", with(func(in *policy.Incarnation) { in.PID = maxPID + 1 }), unknown, "it could not be read again"},
		{"without_a_UUID", with(func(in *policy.Incarnation) { in.UUID = "../lock" }), `underway: "../lock" is not a UUID; give the UUID of the domain's XML`, "a name of a file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			defer syscall.Umask(syscall.Umask(0))
			root := host(t)
			l := lock(t, root)
			err := l.Add(tt.in)
			if got := fmt.Sprint(err); tt.want != "" && got != tt.want || tt.want == "" && err != nil {
				t.Errorf("got  %s\nwant %s (%s)", got, tt.want, tt.why)
			}
			if l.Has(in) != (tt.want == "") {
				t.Errorf("has: %v", l.Has(in))
			}
			modes := map[string]fs.FileMode{}
			must(t, filepath.WalkDir(root+"/run", func(p string, d fs.DirEntry, err error) error {
				must(t, err)
				info, err := d.Info()
				must(t, err)
				modes[strings.TrimPrefix(p, root)] = info.Mode()
				return nil
			}))
			want := map[string]fs.FileMode{"/run": 0o755 | fs.ModeDir, "/run/stopguard": 0o755 | fs.ModeDir, home: 0o700 | fs.ModeDir, home + "/lock": 0o600}
			if tt.want == "" {
				want[home+"/"+uuidA] = 0o600
			}
			if diff := cmp.Diff(want, modes); diff != "" {
				t.Error(diff)
			}
		})
	}
	t.Run("replaces_an_earlier_incarnation", func(t *testing.T) {
		root := host(t)
		members, _ := sleepers(t, 1)
		l := lock(t, root)
		must(t, l.Add(self(t, members[0].UUID)))
		must(t, l.Add(members[0]))
		for range 2 {
			if !l.Has(members[0]) || l.Has(self(t, members[0].UUID)) {
				t.Error("want the later one alone")
			}
			must(t, l.Close())
			l = lock(t, root)
		}
	})
	t.Run("that_fails_adds_nothing", func(t *testing.T) {
		root := host(t)
		l := lock(t, root)
		must(t, os.Mkdir(filepath.Join(root, home, uuidA), 0o700)) // in the way
		err := l.Add(in)
		if want := "underway: " + filepath.Join(root, home, uuidA) + ": file exists; correct this and try again"; err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
		if l.Has(in) {
			t.Error("has what could not be added")
		}
	})
}

func TestHas(t *testing.T) {
	in := self(t, uuidA)
	entry := fmt.Sprintf("%d %d\n", in.PID, in.Start)
	tests := []struct {
		name   string
		entry  string
		in     policy.Incarnation
		want   bool
		report bool
		why    string
	}{
		{"the_same", entry, in, true, false, ""},
		{"another_domain", entry, self(t, uuidB), false, false, ""},
		{"another_incarnation", entry, policy.Incarnation{UUID: uuidA, PID: in.PID, Start: in.Start + 1}, false, false, ""},
		{"one_that_cannot_be_told", entry, policy.Incarnation{UUID: uuidA}, true, false, "it may be it: better count one too few"},
		{"one_that_cannot_be_told_without_an_entry", "", policy.Incarnation{UUID: uuidB}, false, false, "nobody stopped it"},
		{"empty", "-", in, true, true, "it may be it"},
		{"cut", entry[:3], in, true, true, ""},
		{"without_its_end", strings.TrimSuffix(entry, "\n"), in, true, true, "written whole or not at all, so this is not ours"},
		{"with_more", entry + "x", in, true, true, ""},
		{"with_a_sign", "+" + entry, in, true, true, ""},
		{"with_zeros_before_it", "0" + entry, in, true, true, ""},
		{"negative", "-1 5\n", in, true, true, "kill(-1) is everybody"},
		{"of_no_process", "0 0\n", in, true, true, ""},
		{"oversized", strings.Repeat("1", 65), in, true, true, "bounded"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := host(t)
			lock(t, root).Close()
			if tt.entry != "" {
				must(t, os.WriteFile(filepath.Join(root, home, uuidA), []byte(tt.entry), 0o600))
			}
			if tt.name == "empty" {
				must(t, os.Truncate(filepath.Join(root, home, uuidA), 0))
			}
			l := lock(t, root)
			if got := l.Has(tt.in); got != tt.want {
				t.Errorf("%v, want %v (%s)", got, tt.want, tt.why)
			}
			if got := len(l.Reports()) == 1; got != tt.report {
				t.Errorf("reports: %v", l.Reports())
			}
			for _, err := range l.Reports() {
				if text := err.Error(); !strings.HasPrefix(text, "underway: "+root+home+"/"+uuidA+": ") || strings.Count(text, "; ") != 1 || strings.Contains(text, "\n") {
					t.Errorf("not of the form: %q", text)
				}
			}
			if tt.report { // a stop of it that is allowed makes it whole
				must(t, l.Add(in))
				must(t, l.Close())
				if l = lock(t, root); !l.Has(in) || len(l.Reports()) > 0 {
					t.Errorf("%v %v", l.Has(in), l.Reports())
				}
			}
		})
	}
	t.Run("an_entry_that_is_a_link_or_somebody_else's_counts_and_is_said", func(t *testing.T) {
		root := host(t)
		lock(t, root).Close()
		must(t, os.Symlink("lock", filepath.Join(root, home, uuidA)))
		must(t, os.WriteFile(filepath.Join(root, home, uuidB), fmt.Appendf(nil, "%d %d\n", in.PID, in.Start), 0o600))
		must(t, os.Chmod(filepath.Join(root, home, uuidB), 0o666))
		l := lock(t, root)
		if !l.Has(self(t, uuidA)) || !l.Has(self(t, uuidB)) || len(l.Reports()) != 2 {
			t.Error(l.Reports())
		}
	})
	t.Run("what_is_no_entry_counts_for_nothing", func(t *testing.T) {
		root := host(t)
		lock(t, root).Close()
		for _, name := range []string{"README", ".adding", strings.ToUpper(uuidA), uuidA + ".tmp"} {
			must(t, os.WriteFile(filepath.Join(root, home, name), nil, 0o600))
		}
		if l := lock(t, root); l.Has(in) || len(l.Reports()) > 0 {
			t.Error(l.Reports())
		}
	})
}

func TestGone(t *testing.T) {
	ended := testhost.Start(t, order{Sleep: true})
	testhost.Release(t, ended)
	dead := process(t, uuidA, ended.PID())
	ended.Kill()
	in := self(t, uuidA)
	tests := []struct {
		name string
		e    entry
		proc string
		want bool
		why  string
	}{
		{"alive", entry{in.PID, in.Start}, "/proc", false, ""},
		{"of_another_start_time", entry{in.PID, in.Start + 1}, "/proc", true, "its PID came again"},
		{"ended", entry{dead.PID, dead.Start}, "/proc", true, ""},
		{"alive_and_hidden", entry{in.PID, in.Start}, t.TempDir(), false, "a /proc that shows nothing proves nothing"},
		{"of_another_start_time_and_hidden", entry{in.PID, in.Start + 1}, t.TempDir(), false, "nor this: kept while unsure"},
		{"ended_and_hidden", entry{dead.PID, dead.Start}, t.TempDir(), true, "no signal reaches it"},
	}
	defer func() { proc = "/proc" }()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			proc = tt.proc
			if got := isGone(tt.e); got != tt.want {
				t.Errorf("%v, want %v (%s)", got, tt.want, tt.why)
			}
		})
	}
}
