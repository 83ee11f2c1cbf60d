package notify

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stopguard/stopguard/internal/testhost"
	"github.com/stopguard/stopguard/policy"
)

// An order is what a child of the tests does.
type order struct{ Root, Program, User string }

func TestMain(m *testing.M) {
	var o order
	if testhost.Ordered(&o) {
		site := &policy.Notify{Program: o.Program, User: o.User}
		Start(Config{Root: o.Root, Settings: func() (*policy.Notify, error) { return site, nil }, Log: func(string, ...any) {}, timing: &quick})
		testhost.Ready()
		return
	}
	os.Exit(testhost.RunWaiting(m))
}

// quick are the times of tests.
var quick = timing{pace: 10 * time.Millisecond, limit: 30 * time.Second, first: time.Millisecond, most: 20 * time.Millisecond, age: time.Hour, gateStops: 50 * time.Millisecond}

// A site is a host whose program is a script, and its notifier.
type site struct {
	t        *testing.T
	root     string
	settings atomic.Pointer[policy.Notify]
	log      *testhost.Buffer
	seen     int // events, by expect
	*Notifier
}

// program is where the script of a test is.
const program = "/usr/local/lib/tell"

// newSite returns a host with a script that is told. $OUT is a folder that the script may write.
func newSite(t *testing.T, script string) *site {
	t.Helper()
	root := t.TempDir()
	s := &site{t: t, root: root, log: &testhost.Buffer{}}
	// The program's user has to reach its folder.
	testhost.OpenToAll(t, root)
	out := filepath.Join(root, "out")
	if err := errors.Join(os.Mkdir(out, 0o777), os.Chmod(out, 0o777)); err != nil {
		t.Fatal(err)
	}
	s.script(script)
	s.settings.Store(&policy.Notify{Program: program, User: programUser(t)})
	return s
}

// script puts the program in its place in one step, for the former one may be just about to run.
func (s *site) script(text string) {
	s.t.Helper()
	// A child of another test would have the file open for writing, and it could not be run then.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	testhost.Put(s.t, s.root, program+".new", "#!/bin/sh\nOUT="+filepath.Join(s.root, "out")+"\n"+text+"\n")
	if err := os.Rename(filepath.Join(s.root, program+".new"), filepath.Join(s.root, program)); err != nil {
		s.t.Fatal(err)
	}
	for _, dir := range []string{"usr", "usr/local", "usr/local/lib", "usr/local/lib/tell"} {
		if err := os.Chmod(filepath.Join(s.root, dir), 0o755); err != nil {
			s.t.Fatal(err)
		}
	}
}

// programUser returns the user that the program runs as: for root the one without rights, otherwise
// the user of the tests, who may not change to another.
func programUser(t *testing.T) string {
	if os.Geteuid() == 0 {
		return "nobody"
	}
	u, err := user.LookupId(strconv.Itoa(os.Geteuid()))
	if err != nil {
		t.Skip("the user of the tests has no name")
	}
	return u.Username
}

// start starts a notifier, until the test ends or it is stopped.
func (s *site) start(t timing) {
	s.t.Helper()
	s.Notifier = Start(Config{
		Root: s.root, Settings: func() (*policy.Notify, error) { return s.settings.Load(), nil },
		Log: func(format string, args ...any) { fmt.Fprintf(s.log, format+"\n", args...) }, timing: &t,
	})
	n := s.Notifier
	s.t.Cleanup(func() {
		n.Stop(0)
		if s.t.Failed() {
			s.t.Logf("the log:\n%s", s.log)
		}
	})
	s.eventually("the notifier has looked", func() bool { _, err := os.Stat(queue{s.root}.path(stateName)); return err == nil })
}

func (s *site) eventually(what string, is func() bool) {
	s.t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("never: %s; the script got %+v; the log:\n%s", what, s.got(), s.log)
		}
	}
}

// got returns the events that the script has written into the file lines.
func (s *site) got() []Event {
	text, _ := os.ReadFile(filepath.Join(s.root, "out/lines"))
	var events []Event
	for line := range strings.Lines(string(text)) {
		var e Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			s.t.Errorf("%q: %v", line, err)
		}
		events = append(events, e)
	}
	return events
}

func (s *site) waitFor(n int) []Event {
	s.t.Helper()
	s.eventually(fmt.Sprintf("%d events are told", n), func() bool { return len(s.got()) >= n && s.Stats().Waiting == 0 })
	return s.got()
}

func (s *site) status() Status {
	s.t.Helper()
	status, err := StatusOf(s.root, time.Now())
	if err != nil {
		s.t.Fatal(err)
	}
	return status
}
