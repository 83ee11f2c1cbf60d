// Package sitetest tests a site's policy. It checks that the policy loads and is formatted. It runs
// the Rego tests, and checks their inputs, the decisions that the cases want, and the domains that
// must be stoppable. The kit for Go tests and the tool report the results.
package sitetest

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
	"testing/fstest"
	"time"

	"github.com/stopguard/stopguard/internal/problem"
	"github.com/stopguard/stopguard/policy"
)

// A Config configures the tests.
type Config struct {
	Policy    string // folder with the rules and settings
	Cases     Folder // decisions that are wanted
	Stoppable Folder // domains that must be stoppable
	Time      time.Time

	// Update rewrites the wanted decision of every case. Format rewrites the Rego files in the form
	// of opa fmt.
	Update, Format bool

	Cures Cures
}

// Cures are the parts of errors that depend on the program that runs the tests.
type Cures struct {
	NoPolicy string // if the folder of the policy is missing
	NoFolder string // if a named folder is missing
	Format   string // if a file is not formatted
	Update   string // if a decision is not the wanted one
}

// A Folder is a folder that may be missing unless it is required. A Folder without a name is not
// tested.
type Folder struct {
	Name     string
	Required bool
}

// DefaultTime is the time of a stop unless a test sets another.
var DefaultTime = time.Date(2026, time.January, 5, 12, 0, 0, 0, time.UTC)

// A Result is the result of one check.
type Result struct {
	// Name is the check's kind and, if there are several of that kind, its own name, such as
	// "cases", "gpu".
	Name []string

	// Problems have the form "what is wrong; what to do". If there are not any, the check passed.
	Problems []string

	// Notes are the output of a test, or the changes that were made.
	Notes []string

	// Skipped is the reason for which the check was not made; "" if it was made.
	Skipped string
}

// Failed reports whether a check failed.
func Failed(results []Result) bool {
	return slices.ContainsFunc(results, func(r Result) bool { return len(r.Problems) > 0 })
}

// Run makes all checks and returns their results in a fixed order. If the policy does not load, it
// does not make the other checks.
func Run(ctx context.Context, c Config) []Result {
	if c.Time.IsZero() {
		c.Time = DefaultTime
	}
	k := &kit{Config: c, ctx: ctx}
	load := Result{Name: []string{"load"}}
	engine, err := k.load()
	if err != nil {
		for _, one := range problem.All(err) {
			load.Problems = append(load.Problems, one.Error())
		}
		return []Result{load}
	}
	for _, warning := range engine.Warnings() {
		load.Notes = append(load.Notes, warning.Error())
	}
	results := []Result{load, k.testFormat()}
	tests := k.testRego(engine)
	stoppable := k.testFolder("stoppable", c.Stoppable, ".xml", func(file string) Result { return k.testStoppable(engine, file) })
	cases := k.testFolder("cases", c.Cases, ".txtar", func(file string) Result { return k.testCase(engine, file) })
	ran := 0
	for _, r := range slices.Concat(tests, stoppable, cases) {
		if len(r.Name) > 1 {
			ran++
		}
	}
	results = slices.Concat(results, tests, stoppable, cases)
	if ran == 0 && c.Cases.Name != "" && !Failed(results) {
		results = append(results, Result{Name: []string{"tests"}, Problems: []string{fmt.Sprintf(
			"%s: nothing was tested; write a case into %s, or the XML of a domain that must be stoppable into %s", c.Policy, c.Cases.Name, c.Stoppable.Name)}})
	}
	return results
}

// A kit is a Config and the files of the policy.
type kit struct {
	Config
	ctx   context.Context
	files fstest.MapFS
}

// load reads the policy, and makes an engine of it as a host would.
func (k *kit) load() (*policy.Engine, error) {
	var err error
	if k.files, err = ReadFolder(k.Policy); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: there is no such folder; %s", k.Policy, k.Cures.NoPolicy)
	} else if err != nil {
		return nil, fmt.Errorf("%s: %w; make it readable", k.Policy, err)
	}
	return policy.New(k.ctx, policy.Config{Sites: []policy.Site{{FS: k.files, Name: k.Policy}}})
}

// ReadFolder reads all files below a folder.
func ReadFolder(folder string) (fstest.MapFS, error) {
	files, root := fstest.MapFS{}, os.DirFS(folder)
	err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(root, name)
		files[name] = &fstest.MapFile{Data: content}
		return err
	})
	return files, err
}

// ruleFiles returns the Rego files that a host would load, and the files with tests.
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

// names returns the files that a host would read, sorted.
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

// testFolder makes a check for each file of a folder.
func (k *kit) testFolder(kind string, f Folder, ending string, test func(file string) Result) []Result {
	if f.Name == "" {
		return nil
	}
	whole := Result{Name: []string{kind}}
	entries, err := os.ReadDir(f.Name)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !f.Required:
		whole.Skipped = "there is no " + f.Name
	case err != nil:
		whole.Problems = []string{fmt.Sprintf("%s: %v; %s", f.Name, errors.Unwrap(err), k.Cures.NoFolder)}
	}
	results := []Result{whole}
	for _, entry := range entries {
		file := filepath.Join(f.Name, entry.Name())
		switch {
		case strings.HasPrefix(entry.Name(), "."), path.Ext(entry.Name()) == ".md":
		case entry.IsDir() || path.Ext(entry.Name()) != ending:
			results[0].Problems = append(results[0].Problems, fmt.Sprintf("%s: is no %s file, and would not be tested; rename or remove it", file, ending))
		default:
			r := test(file)
			r.Name = []string{kind, strings.TrimSuffix(entry.Name(), ending)}
			results = append(results, r)
		}
	}
	return results
}

// reasonText returns a reason in the form of a case's want.
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

// failure returns a result with one problem.
func failure(format string, args ...any) Result {
	return Result{Problems: []string{fmt.Sprintf(format, args...)}}
}
