package bundles

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/stopguard/stopguard/internal/problem"
	"github.com/stopguard/stopguard/internal/regotest"
	"github.com/stopguard/stopguard/policy"
)

// testTime bounds the tests of one bundle.
const testTime = 20 * time.Second

// runTests runs the tests of a bundle, *_test.rego, as opa test would. They see the bundle's own
// rules and data and the rule library, but not the host's files. It returns their number, which may
// be 0.
func runTests(ctx context.Context, site policy.Site) (int, error) {
	tested, tests, err := parseTests(site)
	if err != nil || tests == 0 {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, testTime)
	defer cancel()
	type outcome struct {
		count int
		err   error
	}
	done := make(chan outcome, 1)
	go func() { // a built-in function cannot be cancelled, so the caller does not wait for it
		defer func() {
			if p := recover(); p != nil {
				done <- outcome{0, fmt.Errorf("the tests of %s panicked: %v; correct them", site.Name, p)}
			}
		}()
		count, err := report(ctx, site.Name, tested)
		done <- outcome{count, err}
	}()
	select {
	case o := <-done:
		return o.count, o.err
	case <-ctx.Done():
		return 0, fmt.Errorf("the tests of %s did not end within %v; make them simpler", site.Name, testTime)
	}
}

// report runs the tests and returns the number that passed, or an error with the names of those
// that failed.
func report(ctx context.Context, name string, tested *regotest.Policy) (int, error) {
	results, err := tested.Run(ctx, testTime, false)
	if err != nil {
		return 0, fmt.Errorf("the tests of %s cannot be compiled: %s; correct them", name, problem.OneLine(err.Error()))
	}
	count := 0
	var failed []string
	for _, r := range results {
		switch {
		case r.Skip:
		case r.Pass():
			count++
		case r.Error != nil:
			failed = append(failed, fmt.Sprintf("%s (%s)", r.Name, problem.OneLine(r.Error.Error())))
		default:
			failed = append(failed, r.Name)
		}
	}
	if len(failed) > 0 {
		slices.Sort(failed)
		return 0, fmt.Errorf("%d of the %d tests of %s fail here: %s; correct the rules or the tests",
			len(failed), len(failed)+count, name, strings.Join(failed, ", "))
	}
	if err := ctx.Err(); err != nil {
		return 0, errors.New("the tests were interrupted; they are run again at the next download")
	}
	return count, nil
}

// parseTests parses the bundle with its tests, and returns the number of its files with tests.
func parseTests(site policy.Site) (tested *regotest.Policy, tests int, err error) {
	if tested, err = regotest.New(); err != nil {
		return nil, 0, err
	}
	err = fs.WalkDir(site.FS, ".", func(file string, entry fs.DirEntry, err error) error {
		base := path.Base(file)
		isData, isRego := base == "data.json" || base == "data.yaml", strings.HasSuffix(base, ".rego")
		if err != nil || entry.IsDir() || !isData && !isRego {
			return err
		}
		content, err := fs.ReadFile(site.FS, file)
		if err != nil {
			return err
		}
		if isData {
			return tested.AddData(file, content)
		}
		if strings.HasSuffix(base, "_test.rego") {
			tests++
		}
		return tested.AddModule(path.Join(site.Name, file), content)
	})
	return tested, tests, err
}
