package hooktest

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stopguard/stopguard/hookproto"
)

const defaultBound = 20 * time.Second

// Config describes the hook. Its zero value works.
type Config struct {
	// Env is added to the environment that libvirt gives a hook, as "KEY=value", for a program that
	// reads its host's root from it (STOPGUARD_ROOT). The program runs in "/", so paths must be
	// absolute. Handler ignores Env.
	Env []string

	// Break breaks the hook's policy. It is called once, after all assertions have run, and then
	// all of them run again. A broken policy must not harm any operation, and must cause a fault
	// for at least one captured domain's stop. Break restores the policy with the Cleanup of its T.
	// On the hook's host the captured domains (pg-primary-01, protected-vm, web-01 and more) must
	// run or be unknown: a hook allows stops of dead domains with any policy. If Break is nil, the
	// broken policy is not tested.
	Break func(*testing.T)

	// SkipStop leaves out the calls for a stop, for a hook that does not answer them in a test: the
	// shell front of package hookproto allows everything unless it runs as root.
	SkipStop bool

	// SkipState leaves out the stops of a dead domain and on a host that shuts down, for a program
	// that does not read its host's state under STOPGUARD_ROOT. Test such a program for them in
	// another way.
	SkipState bool

	// Bound is the time after which a call counts as hanging. It does not measure how fast a hook
	// is. 0 means 20 s.
	Bound time.Duration
}

// Binary asserts the contract of the hook program at path, in a few hundred calls. Each call is a
// process in its own session, with the arguments, the environment (LC_ALL, PATH and HOME only), the
// working directory and the pipes that libvirt gives a hook. It must not leave a process behind. It
// runs as the user of the test, whereas libvirt's daemon mostly is root.
func Binary(t *testing.T, path string, c Config) {
	t.Helper()
	absolute, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(absolute); err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
		t.Fatalf("%s is no program; build it first", absolute)
	}
	binary(testingT{t}, absolute, c)
}

// Handler asserts the contract of a hook that answers through [hookproto.Run] with h, without a
// process for each call. The assertions about processes are left out: bounds of memory, children,
// and closed descriptors. While it runs, os.Stdout is a file of the kit, so it must not run in
// parallel with tests that print.
func Handler(t *testing.T, h hookproto.Handler, c Config) {
	t.Helper()
	handler(testingT{t}, h, c)
}

func binary(t tester, path string, c Config) {
	t.Helper()
	c = c.withDefaults()
	keepDescriptors()
	contract{Config: c, hook: program{path: path, env: c.Env, bound: c.Bound}, process: true}.assert(t)
}

func handler(t tester, h hookproto.Handler, c Config) {
	t.Helper()
	c = c.withDefaults()
	printed, restore := takeStdout(t)
	defer restore()
	contract{Config: c, hook: function{handler: h, bound: c.Bound, printed: printed}}.assert(t)
}

func (c Config) withDefaults() Config {
	if c.Bound == 0 {
		c.Bound = defaultBound
	}
	return c
}

// tester is the part of *testing.T that the kit needs. The kit's own tests implement it to record
// failures.
type tester interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Run(name string, f func(tester))
	breaks(func(*testing.T))
}

type testingT struct{ *testing.T }

func (t testingT) Run(name string, f func(tester)) {
	t.Helper()
	t.T.Run(name, func(t *testing.T) { f(testingT{t}) })
}

func (t testingT) breaks(f func(*testing.T)) { f(t.T) }
