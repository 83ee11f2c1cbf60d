package install

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stopguard/stopguard/internal/host"
	"github.com/stopguard/stopguard/internal/testhost"
)

func TestTheFieldsOfTheJSONAreDocumented(t *testing.T) {
	testhost.CheckJSONPage(t, "install -o json", account{})
}

// A program that installs reads what was done, what is left to do, and why it failed.
func TestInstallAsJSON(t *testing.T) {
	p := newSite(t)
	run := func(args ...string) (account, error) {
		t.Helper()
		out, failed := p.do(Command(), append(args, "-o", "json")...)
		var a account
		if err := json.NewDecoder(strings.NewReader(out)).Decode(&a); err != nil {
			t.Fatalf("%v:\n%s", err, out)
		}
		return a, failed
	}
	program := step{"installed", p.Path(host.HookProgram)}
	first, err := run("--hook", p.Path("/home/stopguard-hook"))
	if err != nil || !first.Done || first.Error != "" || first.Enforced || first.Why == "" {
		t.Errorf("%v, %+v", err, first)
	}
	if !slices.Contains(first.Steps, program) || !slices.ContainsFunc(first.Steps, func(s step) bool { return s.Action == "linked" }) {
		t.Errorf("the steps are %+v", first.Steps)
	}
	if want := "stopguard doctor"; first.Next[len(first.Next)-1] != want || !slices.Contains(first.Next, "systemctl reload libvirtd") {
		t.Errorf("what is left is %q", first.Next)
	}
	again, err := run("--hook", p.Path("/home/stopguard-hook"))
	if err != nil || slices.ContainsFunc(again.Steps, func(s step) bool { return s.Action != "unchanged" }) {
		t.Errorf("a second time: %v, %+v", err, again.Steps)
	}
	bad, err := run("--hook", p.Path("/home/nothing"))
	if diff := cmp.Diff(account{Error: errText(err), Steps: []step{}, Next: []string{}, Enforcement: bad.Enforcement}, bad); diff != "" || err == nil {
		t.Errorf("without a program: %v (-want +got):\n%s", err, diff)
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
