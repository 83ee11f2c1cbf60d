package hooktest

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stopguard/stopguard/hookproto"
)

const defaultBound = 20 * time.Second

// Config says what the kit cannot know of a hook. Its zero value works.
type Config struct {
	// Env is added to the environment that libvirt gives a hook, as "KEY=value", for a program
	// that can be told where its host is (STOPGUARD_ROOT). The program runs in "/", so paths
	// must be absolute. Handler ignores it.
	Env []string

	// Break breaks the policy that the hook decides by. It is called once, after everything was
	// asserted of the policy as it is, and then all of it is asserted once more: a broken policy
	// must harm no operation, and must be a fault of at least one captured domain's stop. What
	// it undoes, it undoes with the Cleanup of its T. On the hook's host the captured domains
	// (pg-primary-01, protected-vm, web-01 and more) must run or be unknown: a hook rightly lets
	// the dead go, whatever its policy. nil leaves the broken policy out.
	Break func(*testing.T)

	// SkipStop leaves out the calls for a stop, for a hook that knows it is not asked: the shell
	// front of package hookproto lets everything go unless it runs as root.
	SkipStop bool

	// SkipState leaves out the stops of a domain that is dead and on a host that shuts down, for a
	// program that does not look for its host's state below STOPGUARD_ROOT. Such a program must be
	// tested for them in another way.
	SkipState bool

	// Bound is how long a call may take before it counts as one that hangs. It is not for
	// measuring how fast a hook is. 0 means 20 s.
	Bound time.Duration
}

// Binary asserts the contract of the hook program at path, in a few hundred calls. Each is a
// process in a session of its own, with the arguments, the environment (LC_ALL, PATH and HOME
// only), the working directory and the pipes that libvirt gives a hook, and must leave no
// process behind. It runs as the user of the test, where libvirt's daemon is mostly root.
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

// Handler asserts the contract of a hook that answers through [hookproto.Run] with h, without
// a process for each call. What only a process has is left out: bounds of memory, children,
// and closed descriptors. While it runs os.Stdout is a file of the kit, so it must not run in
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

// tester is what the kit needs of a *testing.T: its own tests record what it finds.
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
