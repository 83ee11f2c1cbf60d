// Package policytest tests a site's policy. One line in a Go test is all it takes:
//
//	func TestPolicy(t *testing.T) { policytest.Run(t, policytest.Config{}) }
//
// It looks for the policy in the folder policy, for decisions that are wanted in testdata/cases and
// for domains that must be stoppable in testdata/stoppable, beside the Go file. README.md of
// examples/policy-bundle shows all of it.
package policytest

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/version"

	"github.com/stopguard/stopguard/internal/sitetest"
	"github.com/stopguard/stopguard/policy"
)

// A Config names the policy and its test data. Folders are relative to that of the Go file with the
// test. The zero value suits most sites.
type Config struct {
	// Policy is the folder with the site's rules and settings; "" means "policy".
	Policy string

	// Cases is the folder with the expected decisions, one txtar file each, as [Run] describes
	// them; "" means "testdata/cases", which may be missing.
	Cases string

	// Stoppable is the folder with the XML of domains (*.xml) that nothing in the policy may refuse
	// to stop; "" means "testdata/stoppable", which may be missing.
	Stoppable string

	// Time is the time of the stops, unless a case has another; the zero time means [DefaultTime].
	// A site whose calendar has maintenance windows sets it to a time within one.
	Time time.Time
}

// DefaultTime is the time of a stop unless another is set: noon in UTC on Monday, 5 January 2026.
// It never changes, and so a test that passes today does so tomorrow.
var DefaultTime = sitetest.DefaultTime

// UpdateVariable is the environment variable that, set to 1, makes [Run] write the want of every
// case anew.
const UpdateVariable = "POLICYTEST_UPDATE"

// Run tests the policy in subtests of t:
//
//   - load: it loads, as on a host, with every check of [policy.New].
//   - format: every Rego file is as opa fmt writes it.
//   - rego: the tests in its *_test.rego files pass. They may import the rule library and see the
//     settings as data. A policy with rules and without a test fails. So does a test whose input no
//     host could have: without a field that the rule reads, or of another form than
//     rego/input.schema.json.
//   - rules: for each of its rules a Rego test would fail if the rule never vetoed, and one if it always did.
//   - stoppable: no domain of the folder of stoppable domains is vetoed.
//   - cases: every case is decided as it wants.
//
// A case is a txtar file. Its comment, which must be there, says why. It holds these files, of
// which only domain.xml and want must be there:
//
//	domain.xml     the domain that is asked about
//	want           the decision: allow, or veto, and then a line for each reason; see below
//	settings.yaml  all of data.site in place of the policy's; or settings.json
//	time           the time of the request, in RFC 3339
//	state          YAML: the domain's state by libvirt: state, reason, job, disks (jobs by target)
//	list           the protected list
//	host           YAML: the host's name, and domains, the others that run on it: name, uuid, state,
//	               metadata (XML), stopping
//	fleet          YAML: groups, the groups of the fleet: name, error, and members: name, uuid,
//	               host, since, reserved
//	operation      the requested operation: stop (also if the file is missing), delete, pause,
//	               reset, move or modify
//	request        YAML: the request: procedure, flags, command, destination
//	caller         YAML: the client: uid, login_uid, user, gid, groups, pid, read_only, via
//
// A reason's line is "RULE: MESSAGE", with " [until TIME]" if it will lapse, in RFC 3339. Lines of
// reasons that are only monitored begin with "monitored ". If the reasons are not enforced, there
// is the line "unenforced: WHY".
func Run(t *testing.T, c Config) {
	t.Helper()
	results := sitetest.Run(context.Background(), c.kit())
	for len(results) > 0 {
		kind := results[0].Name[0]
		n := slices.IndexFunc(results, func(r sitetest.Result) bool { return r.Name[0] != kind })
		if n < 0 {
			n = len(results)
		}
		of := results[:n]
		results = results[n:]
		t.Run(kind, func(t *testing.T) {
			for _, r := range of {
				if len(r.Name) > 1 {
					t.Run(r.Name[1], func(t *testing.T) { report(t, r) })
				} else {
					report(t, r)
				}
			}
		})
	}
}

// Engine returns the engine of the site's policy in a folder, for tests of decisions in Go. It ends
// the test if the policy does not load.
func Engine(t testing.TB, dir string) *policy.Engine {
	t.Helper()
	e, err := policy.New(context.Background(), policy.Config{Sites: []policy.Site{{FS: os.DirFS(dir), Name: dir}}})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// report reports the result of a check as that of the test.
func report(t *testing.T, r sitetest.Result) {
	t.Helper()
	for _, note := range r.Notes {
		t.Log(note)
	}
	for _, problem := range r.Problems {
		t.Error(problem)
	}
	if r.Skipped != "" {
		t.Skip(r.Skipped)
	}
}

func (c Config) kit() sitetest.Config {
	folder := func(name, otherwise string) sitetest.Folder {
		return sitetest.Folder{Name: cmp.Or(name, otherwise), Required: name != ""}
	}
	site := cmp.Or(c.Policy, "policy")
	return sitetest.Config{
		Policy:    site,
		Cases:     folder(c.Cases, "testdata/cases"),
		Stoppable: folder(c.Stoppable, "testdata/stoppable"),
		Time:      c.Time,
		Update:    os.Getenv(UpdateVariable) == "1",
		Cures: sitetest.Cures{
			NoPolicy: "put the policy there, or name its folder in policytest.Config",
			NoFolder: "make the folder, or do not name it in policytest.Config",
			Format:   fmt.Sprintf("run: go run github.com/open-policy-agent/opa@v%s fmt -w %s", version.Version, site),
			Update:   "correct the policy, or write the decision into it with " + UpdateVariable + "=1 go test",
		},
	}
}
