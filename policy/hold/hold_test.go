package hold

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stopguard/stopguard/policy"
)

const (
	uuidA = "0f3c8a52-6d0e-4c1b-9a77-3b2f4de81c05"
	uuidB = "11111111-2b11-40de-a128-75e3f4a5fe11"
)

// holders is how many processes TestKilledHoldersLeaveNoHold kills. CI kills a thousand.
var holders = flag.Int("holders", 40, "how many holders are killed")

// role has this test binary hold a domain: "hold" until it is killed, "child" beside a child that
// outlives it, or the step at which it kills itself.
const role = "STOPGUARD_TEST_HOLD"

func TestMain(m *testing.M) {
	if as := os.Getenv(role); as != "" {
		play(as)
	}
	flag.Parse()
	os.Exit(m.Run())
}

func play(as string) {
	step = func(point string) {
		if point == as {
			self, _ := os.FindProcess(os.Getpid())
			_ = self.Kill()
			select {}
		}
	}
	_, err := Store{Root: os.Getenv("STOPGUARD_ROOT")}.Acquire(Request{Domain: uuidA, Reason: "nightly backup"})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	if as == "child" {
		child := exec.Command("sleep", "60")
		if err := child.Start(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("child", child.Process.Pid)
	}
	fmt.Println("held")
	select {}
}

// start starts a holder, and returns what it prints before it holds.
func start(t *testing.T, root, as string) (*exec.Cmd, string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), role+"="+as, "STOPGUARD_ROOT="+root)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	var printed strings.Builder
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		if lines.Text() == "held" {
			break
		}
		printed.WriteString(lines.Text())
	}
	return cmd, printed.String()
}

func empty(t *testing.T) Store { return Store{Root: t.TempDir()} }

func (s Store) of(t *testing.T, domain string) []policy.Hold {
	t.Helper()
	holds, err := s.Of(domain, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return holds
}

func (s Store) acquire(t *testing.T, r Request) *Hold {
	t.Helper()
	h, err := s.Acquire(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Release() })
	return h
}

func TestAHoldLastsUntilItIsReleased(t *testing.T) {
	s := empty(t)
	if holds := s.of(t, uuidA); len(holds) > 0 {
		t.Error(holds)
	}
	h := s.acquire(t, Request{Domain: strings.ToUpper(uuidA), Reason: "nightly backup", Operations: []string{"reset", "tamper"}, AtMost: time.Hour})
	got := s.of(t, uuidA)
	if len(got) != 1 || time.Since(got[0].Since) > time.Minute || !got[0].Until.Equal(h.Until) {
		t.Fatal(got)
	}
	got[0].Since, got[0].Until, got[0].Holder = time.Time{}, time.Time{}, ""
	want := policy.Hold{PID: os.Getpid(), Reason: "nightly backup", Operations: []string{"stop", "delete", "reset", "modify"}}
	if diff := cmp.Diff(want, got[0]); diff != "" {
		t.Error(diff)
	}
	if holds := s.of(t, uuidB); len(holds) > 0 {
		t.Error("another domain is held, too", holds)
	}
	all, err := s.All(time.Now())
	if err != nil || len(all) != 1 || len(all[uuidA]) != 1 {
		t.Error(all, err)
	}
	second := s.acquire(t, Request{Domain: uuidA, Reason: "another"})
	for range 2 {
		if err := h.Release(); err != nil {
			t.Error(err)
		}
		if holds := s.of(t, uuidA); len(holds) != 1 || holds[0].Reason != "another" {
			t.Error(holds)
		}
	}
	if err := second.Release(); err != nil || len(s.of(t, uuidA)) > 0 {
		t.Error(err, s.of(t, uuidA))
	}
}

func TestAHoldEndsAfterItsTime(t *testing.T) {
	s := empty(t)
	h := s.acquire(t, Request{Domain: uuidA, Reason: "x", AtMost: time.Hour})
	for at, want := range map[time.Time]int{h.Until.Add(-1): 1, h.Until: 0} {
		if holds, err := s.Of(uuidA, at); err != nil || len(holds) != want {
			t.Errorf("at %v: %v %v, want %d", at, holds, err, want)
		}
	}
	short := s.acquire(t, Request{Domain: uuidB, Reason: "x", AtMost: time.Millisecond})
	for { // the holder frees it itself, whatever the wall clock says
		short.mu.Lock()
		ended := short.file == nil
		short.mu.Unlock()
		if ended {
			break
		}
		time.Sleep(time.Millisecond)
	}
}

func TestKilledHoldersLeaveNoHold(t *testing.T) {
	s := empty(t)
	const atOnce = 100
	for left := *holders; left > 0; left -= atOnce {
		var cmds []*exec.Cmd
		for range min(left, atOnce) {
			cmd, text := start(t, s.Root, "hold")
			if text != "" {
				t.Fatal(text)
			}
			cmds = append(cmds, cmd)
		}
		if holds := s.of(t, uuidA); len(holds) != len(cmds) {
			t.Fatalf("%d holds of %d holders", len(holds), len(cmds))
		}
		for _, cmd := range cmds {
			_ = cmd.Process.Kill()
		}
		for _, cmd := range cmds {
			_ = cmd.Wait()
		}
		if holds := s.of(t, uuidA); len(holds) > 0 {
			t.Fatalf("%d holds are left: %v", len(holds), holds)
		}
	}
	// The next holder clears the files away.
	s.acquire(t, Request{Domain: uuidB, Reason: "x"})
	if names := s.files(t); len(names) != 1 {
		t.Error(names)
	}
}

func (s Store) files(t *testing.T) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(s.Root + home)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestAHolderMayBeKilledAtAnyMoment(t *testing.T) {
	for _, point := range []string{"file created", "file locked", "hold there"} {
		s := empty(t)
		cmd, _ := start(t, s.Root, point)
		_ = cmd.Wait()
		if holds := s.of(t, uuidA); len(holds) > 0 || len(s.files(t)) != 1 {
			t.Errorf("%s: %v, %v", point, holds, s.files(t))
		}
	}
}

func TestAChildDoesNotInheritTheHold(t *testing.T) {
	s := empty(t)
	cmd, text := start(t, s.Root, "child")
	var pid int
	if _, err := fmt.Sscanf(text, "child %d", &pid); err != nil {
		t.Fatal(text)
	}
	child, err := os.FindProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer child.Kill()
	if len(s.of(t, uuidA)) != 1 {
		t.Fatal("it does not hold")
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if holds := s.of(t, uuidA); len(holds) > 0 {
		t.Error("the child has the hold", holds)
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err != nil {
		t.Error("the child is gone, which proves nothing")
	}
}

func TestFilesWithoutAHolderAreNoHolds(t *testing.T) {
	s := empty(t)
	h := s.acquire(t, Request{Domain: uuidA, Reason: "x"})
	data, err := os.ReadFile(h.path)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{uuidA + ".by-hand", uuidB + ".by-hand"} {
		if err := os.WriteFile(filepath.Join(filepath.Dir(h.path), name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(h.path, filepath.Join(filepath.Dir(h.path), uuidB+".link")); err != nil {
		t.Fatal(err)
	}
	if a, b := s.of(t, uuidA), s.of(t, uuidB); len(a) != 1 || len(b) != 0 {
		t.Error(a, b)
	}
}

func written(reason, operation, since string) string {
	return fmt.Sprintf("{\"domain\":%q,\"reason\":%q,\"operations\":[%q],\"pid\":1,\"since\":%q}\n", uuidA, reason, operation, since)
}

func TestAHoldThatCannotBeReadIsAHold(t *testing.T) {
	for name, data := range map[string]string{
		"it is empty": "", "it is not JSON": "x\n", "it is of another domain": `{"domain":"` + uuidB + `","reason":"x","operations":["stop"],"pid":1,"since":"2026-11-28T00:00:00Z"}` + "\n",
		"it is long": strings.Repeat("x", maxFile+1), "its reason is long": written(strings.Repeat("x", maxReason+1), "stop", "2026-11-28T00:00:00Z"),
		"it has an operation of another version": written("x", "migrate", "2026-11-28T00:00:00Z"), "it has a time of the year 10000": written("x", "stop", "9999-12-31T23:59:59-23:59"),
		"it has another field": `{"domain":"` + uuidA + `","why":"x"}`,
	} {
		t.Run(name, func(t *testing.T) {
			s := empty(t)
			h := s.acquire(t, Request{Domain: uuidA, Reason: "x"})
			if err := os.WriteFile(h.path, []byte(data), 0o600); err != nil { // in place: the lock stays
				t.Fatal(err)
			}
			holds := s.of(t, uuidA)
			if len(holds) != 1 || !strings.Contains(holds[0].Reason, h.path+" cannot be read (") {
				t.Fatal(holds)
			}
			if diff := cmp.Diff(policy.Operations(), holds[0].Operations); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAFolderThatOthersMayWriteIsAnError(t *testing.T) {
	s := empty(t)
	s.acquire(t, Request{Domain: uuidA, Reason: "x"})
	if err := os.Chmod(s.Root+home, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Of(uuidA, time.Now()); err == nil || !strings.HasPrefix(err.Error(), "hold: "+s.Root+home+": is writable by everyone") {
		t.Error(err)
	}
	if err := os.Chmod(s.Root+home, 0o755); err != nil {
		t.Fatal(err)
	}
}

// Root says who may hold, by folders; the kernel says whose a file is.
func TestAUserHoldsInAFolderOfTheirs(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to create files of others")
	}
	s := empty(t)
	s.acquire(t, Request{Domain: uuidB, Reason: "x"})
	const backup, stranger = 61001, 61002
	folder := filepath.Join(s.Root, home, "backup")
	if err := errors.Join(os.Mkdir(folder, 0o700), os.Chown(folder, backup, backup)); err != nil {
		t.Fatal(err)
	}
	for uid, want := range map[int]int{backup: 1, stranger: 0, 0: 1} {
		h := s.acquire(t, Request{Domain: uuidA, Reason: "x"})
		moved := filepath.Join(folder, filepath.Base(h.path))
		if err := errors.Join(os.Rename(h.path, moved), os.Chown(moved, uid, uid)); err != nil {
			t.Fatal(err)
		}
		holds := s.of(t, uuidA)
		if len(holds) != want {
			t.Errorf("of uid %d: %v", uid, holds)
		}
		if want == 1 && uid != 0 && holds[0].Holder != "uid 61001" {
			t.Error(holds)
		}
		_ = h.Release()
		_ = os.Remove(moved)
	}
}

func TestAcquire_refuses(t *testing.T) {
	for want, r := range map[string]Request{
		`hold: "pg" is not a UUID; give the domain's UUID, as of virsh domuuid`:                                           {Domain: "pg", Reason: "x"},
		`hold: the reason is empty; say why the domain is held`:                                                           {Domain: uuidA, Reason: " "},
		`hold: the reason is longer than 512 bytes; make it shorter`:                                                      {Domain: uuidA, Reason: strings.Repeat("x", 513)},
		`hold: the reason is not one line of printable text; leave out line breaks, control characters and invalid UTF-8`: {Domain: uuidA, Reason: "a\nb"},
		`hold: the hold would be over from the beginning; give a time of more than 0`:                                     {Domain: uuidA, Reason: "x", AtMost: -1},
		`hold: the hold would last for more than 30 days; give a shorter time`:                                            {Domain: uuidA, Reason: "x", AtMost: 31 * 24 * time.Hour},
		`hold: the operation "destroy" is unknown; name some of ` + strings.Join(policy.Operations(), ", "):               {Domain: uuidA, Reason: "x", Operations: []string{"destroy"}},
	} {
		s := empty(t)
		if _, err := s.Acquire(r); err == nil || err.Error() != want {
			t.Errorf("%v\nwant %s", err, want)
		}
		if _, err := os.Stat(s.Root + "/run"); !errors.Is(err, fs.ErrNotExist) {
			t.Error("something was created")
		}
	}
}

func TestHoldersDoNotDisturbEachOther(t *testing.T) {
	rounds := 50
	if testing.Short() {
		rounds = 10 // each makes and removes a file
	}
	s := empty(t)
	s.acquire(t, Request{Domain: uuidB, Reason: "all the time"})
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range rounds {
				h, err := s.Acquire(Request{Domain: uuidA, Reason: "x"})
				if err != nil {
					t.Error(err)
					return
				}
				if holds, err := s.Of(uuidA, time.Now()); err != nil || len(holds) == 0 {
					t.Error(holds, err)
				}
				if holds, err := s.Of(uuidB, time.Now()); err != nil || len(holds) != 1 {
					t.Error(holds, err)
				}
				if err := h.Release(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if holds := s.of(t, uuidA); len(holds) > 0 {
		t.Error(holds)
	}
}
