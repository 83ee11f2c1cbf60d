// Package policytest tests a site's policy. One line in a Go test is all it takes:
//
//	func TestPolicy(t *testing.T) { policytest.Run(t, policytest.Config{}) }
//
// It looks for the policy in the folder policy, for decisions that are wanted in testdata/cases and
// for domains that must be stoppable in testdata/stoppable, beside the Go file. README.md of
// examples/policy-bundle shows all of it.
package policytest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stopguard/stopguard/policy"
)

// A Config says what is tested. Folders are relative to that of the Go file with the test. Its zero
// value is what most sites need.
type Config struct {
	// Policy is the folder with the site's rules and settings; "" means "policy".
	Policy string

	// Cases is the folder with the decisions that are wanted, one txtar file each, as [Run]
	// describes them; "" means "testdata/cases", which may be missing.
	Cases string

	// Stoppable is the folder with the XML of domains (*.xml) that nothing in the policy may refuse
	// to stop; "" means "testdata/stoppable", which may be missing.
	Stoppable string

	// Time is when the stops are asked for, where a case does not say another; the zero time means
	// [DefaultTime]. A site whose calendar has maintenance windows sets it to a time within one.
	Time time.Time
}

// DefaultTime is when stops are asked for unless something else is set: noon in UTC on Monday, 5
// January 2026. It never changes, and so a test that passes today does so tomorrow.
var DefaultTime = time.Date(2026, time.January, 5, 12, 0, 0, 0, time.UTC)

// UpdateVariable is the environment variable that, set to 1, makes [Run] write the want of every
// case anew.
const UpdateVariable = "POLICYTEST_UPDATE"

// Run tests the policy in subtests of t:
//
//   - load: it loads, as on a host, with every check of [policy.New].
//   - format: every Rego file is as opa fmt writes it.
//   - rego: the tests in its *_test.rego files pass. They may import the rule library and see the settings as data. A
//     policy with rules and without a test fails.
//   - rules: for each of its rules a Rego test would fail if the rule never vetoed, and one if it always did.
//   - stoppable: no domain of the folder of stoppable domains is vetoed.
//   - cases: every case is decided as it wants.
//
// A case is a txtar file. Its comment, which must be there, says why. It holds these files, of
// which only domain.xml and want must be there:
//
//	domain.xml     the domain that is asked about
//	want           the decision: allow, or veto, and then a line for each reason; see below
//	settings.yaml  what replaces data.site, whole; or settings.json
//	time           when it is asked, in RFC 3339
//	state          YAML: what libvirt says of the domain, as state, reason, job, and disks (jobs by target)
//	list           the protected list
//	host           YAML: the host's name, and domains, the others that run on it: name, uuid, state,
//	               metadata (XML), stopping
//	operation      what is asked for: stop, which it is without, pause, reset, move or modify
//	request        YAML: how it is asked for: procedure, flags, command, destination
//	caller         YAML: who asks: uid, login_uid, user, gid, groups, pid, read_only, via
//
// A reason's line is "RULE: MESSAGE", with " [until TIME]" if it will lapse, in RFC 3339. Lines of
// reasons that are only monitored begin with "monitored ". If the reasons are not enforced, there
// is the line "unenforced: WHY".
func Run(t *testing.T, c Config) {
	t.Helper()
	k := newKit(c)
	var engine *policy.Engine
	if !t.Run("load", func(t *testing.T) { engine = k.load(t) }) {
		return // the rest would only repeat it
	}
	t.Run("format", k.testFormat)
	ran := k.testRego(t)
	stoppable := k.testFolder(t, "stoppable", k.stoppable, ".xml", func(t *testing.T, file string) { k.testStoppable(t, engine, file) })
	cases := k.testFolder(t, "cases", k.cases, ".txtar", func(t *testing.T, file string) { k.testCase(t, engine, file) })
	if ran+stoppable+cases == 0 {
		t.Errorf("%s: nothing was tested; write a case into %s, or the XML of a domain that must be stoppable into %s",
			k.policy, k.cases.name, k.stoppable.name)
	}
}

// A kit is a Config with everything filled in, and what was read.
type kit struct {
	policy           string
	files            fstest.MapFS
	cases, stoppable folder
	time             time.Time
}

// A folder is a folder that may be missing unless it was named explicitly.
type folder struct {
	name  string
	named bool
}

func newKit(c Config) *kit {
	k := &kit{
		policy:    c.Policy,
		cases:     folder{c.Cases, c.Cases != ""},
		stoppable: folder{c.Stoppable, c.Stoppable != ""},
		time:      c.Time,
	}
	if k.policy == "" {
		k.policy = "policy"
	}
	if !k.cases.named {
		k.cases.name = "testdata/cases"
	}
	if !k.stoppable.named {
		k.stoppable.name = "testdata/stoppable"
	}
	if k.time.IsZero() {
		k.time = DefaultTime
	}
	return k
}

// load reads the policy, and makes an engine of it as a host would.
func (k *kit) load(t *testing.T) *policy.Engine {
	t.Helper()
	k.files = fstest.MapFS{}
	root := os.DirFS(k.policy)
	err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(root, name)
		k.files[name] = &fstest.MapFile{Data: content}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("%s: there is no such folder; put the policy there, or name its folder in policytest.Config", k.policy)
	}
	if err != nil {
		t.Fatalf("%s: %v; make it readable", k.policy, err)
	}
	engine, err := policy.New(context.Background(), policy.Config{Sites: []policy.Site{{FS: k.files, Name: k.policy}}})
	if err != nil {
		t.Fatal(err)
	}
	return engine
}

// ruleFiles returns the Rego files that a host would load, and those with tests.
func (k *kit) ruleFiles() (rules, tests []string) {
	for _, name := range k.names() {
		switch {
		case strings.HasSuffix(name, "_test.rego"):
			tests = append(tests, name)
		case strings.HasSuffix(name, ".rego"):
			rules = append(rules, name)
		}
	}
	return rules, tests
}

// names are those of the files that a host would see, sorted.
func (k *kit) names() []string {
	var names []string
	for name := range k.files {
		if !strings.HasPrefix(name, ".") && !strings.Contains(name, "/.") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// testFolder runs a subtest for each file of a folder and gives their number.
func (k *kit) testFolder(t *testing.T, name string, f folder, ending string, test func(*testing.T, string)) int {
	t.Helper()
	ran := 0
	t.Run(name, func(t *testing.T) {
		entries, err := os.ReadDir(f.name)
		if errors.Is(err, fs.ErrNotExist) && !f.named {
			t.Skipf("there is no %s", f.name)
		}
		if err != nil {
			t.Fatalf("%s: %v; make the folder, or do not name it in policytest.Config", f.name, errors.Unwrap(err))
		}
		for _, entry := range entries {
			file := filepath.Join(f.name, entry.Name())
			switch {
			case strings.HasPrefix(entry.Name(), "."), path.Ext(entry.Name()) == ".md":
			case entry.IsDir() || path.Ext(entry.Name()) != ending:
				t.Errorf("%s: is no %s file, and would not be tested; rename or remove it", file, ending)
			default:
				ran++
				t.Run(strings.TrimSuffix(entry.Name(), ending), func(t *testing.T) { test(t, file) })
			}
		}
	})
	return ran
}

// reasonText is a reason as a case's want has it.
func reasonText(r policy.Reason) string {
	message := r.Message
	if strings.ContainsFunc(message, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		message = fmt.Sprintf("%q", message)
	}
	if r.Until.IsZero() {
		return fmt.Sprintf("%s: %s", r.Rule, message)
	}
	return fmt.Sprintf("%s: %s [until %s]", r.Rule, message, r.Until.UTC().Format(time.RFC3339))
}
