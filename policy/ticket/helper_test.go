package ticket

import (
	"encoding/json"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stopguard/stopguard/internal/testhost"
	"github.com/stopguard/stopguard/policy"
)

const (
	uuidA = "0f3c8a52-6d0e-4c1b-9a77-3b2f4de81c05"
	uuidB = "c7b1d9a0-2e44-4f0a-8d33-91e07a5f6b12"
	bootA = "11111111-2222-3333-4444-555555555555"
	bootB = "99999999-2222-3333-4444-555555555555"
)

var noon = time.Date(2026, 10, 2, 12, 0, 0, 0, time.UTC)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func none(t testing.TB, reports []error) {
	t.Helper()
	for _, err := range reports {
		t.Errorf("report: %v", err)
	}
}

// at is the tickets below a root, seconds after the boot.
func at(root, id string, seconds int64) Store {
	return Store{Root: root, boot: func() (boot, error) { return boot{id, seconds * int64(time.Second)}, nil }}
}

// empty is a store without tickets, 1000 s after the boot.
func empty(t testing.TB) Store {
	t.Helper()
	root := t.TempDir()
	must(t, os.Chmod(root, 0o755))
	return at(root, bootA, 1000)
}

func single(uuid string) Ticket {
	return Ticket{Domain: uuid, Operation: policy.OperationStop, Reason: "disk swap", Requester: "kim", NotAfter: noon.Add(time.Hour)}
}

func hostWide(pattern string) Ticket {
	t := single("")
	t.Name = pattern
	return t
}

func (s Store) mustGrant(t testing.TB, want Ticket) Ticket {
	t.Helper()
	got, err := s.Grant(want, noon)
	must(t, err)
	return got
}

func run(uuid string, n int) policy.Incarnation {
	return policy.Incarnation{UUID: uuid, PID: 1000 + n, Start: uint64(50_000 + n)}
}

func (s Store) take(in policy.Incarnation) (Ticket, bool, []error) {
	return s.Take(in, "pg-primary-01", policy.OperationStop, noon)
}

// files returns the names and contents of all files in the folder.
func files(t testing.TB, s Store) map[string]string {
	t.Helper()
	got := map[string]string{}
	list, err := os.ReadDir(filepath.Join(s.Root, home))
	must(t, err)
	for _, e := range list {
		data, err := os.ReadFile(filepath.Join(s.Root, home, e.Name()))
		must(t, err)
		got[e.Name()] = string(data)
	}
	return got
}

// order is the command for a child process.
type order struct {
	Do       string // take, mark, grant or revoke
	Root     string
	In       policy.Incarnation
	Ticket   Ticket // to grant; to revoke, its ID
	Crash    string // at which point it kills itself
	FileSize bool   // whether it can write no more than ten bytes to a file
	UID      int
}

// answer is its result.
type answer struct {
	OK      bool
	ID      string
	Reports []string
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
	if o.Crash != "" {
		step = func(point string) {
			if point == o.Crash {
				syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
		}
	}
	if o.FileSize {
		signal.Ignore(syscall.SIGXFSZ)
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 10, Max: 10}); err != nil {
			panic(err)
		}
	}
	if o.UID != 0 {
		if err := syscall.Setuid(o.UID); err != nil {
			panic(err)
		}
	}
	testhost.Ready()
	s := at(o.Root, bootA, 1000)
	var a answer
	var reports []error
	switch o.Do {
	case "take":
		var t Ticket
		t, a.OK, reports = s.take(o.In)
		a.ID = t.ID
	case "mark":
		reports = s.MarkUsed(o.In, noon)
		a.OK = len(reports) == 0
	case "grant":
		t, err := s.Grant(o.Ticket, noon)
		a.ID, a.OK = t.ID, err == nil
		if err != nil {
			reports = []error{err}
		}
	case "revoke":
		err := s.Revoke(o.Ticket.ID)
		a.OK = err == nil
	}
	for _, err := range reports {
		a.Reports = append(a.Reports, err.Error())
	}
	json.NewEncoder(os.Stdout).Encode(a)
}

// end returns the answer of a child, and whether it lived long enough for one.
func end(t testing.TB, c *testhost.Child) (a answer, lived bool) {
	t.Helper()
	err := json.Unmarshal([]byte(c.Says(t)), &a)
	c.Kill()
	return a, err == nil
}

// together runs one process for each order at the same moment.
func together(t testing.TB, orders []order) []answer {
	t.Helper()
	var children []*testhost.Child
	for _, o := range orders {
		children = append(children, testhost.Start(t, o))
	}
	testhost.Release(t, children...)
	var answers []answer
	for i, c := range children {
		a, lived := end(t, c)
		if !lived {
			t.Fatalf("child %d gave no answer", i)
		}
		answers = append(answers, a)
	}
	return answers
}

// alone runs one process.
func alone(t testing.TB, o order) (answer, bool) {
	t.Helper()
	c := testhost.Start(t, o)
	testhost.Release(t, c)
	return end(t, c)
}

func passed(answers []answer) (n int) {
	for _, a := range answers {
		if a.OK {
			n++
		}
	}
	return n
}

func join(reports []error) string {
	var lines []string
	for _, err := range reports {
		lines = append(lines, err.Error())
	}
	return strings.Join(lines, "\n")
}
