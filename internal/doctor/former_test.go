package doctor

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stopguard/stopguard/internal/hostpath"
)

func TestDoctorWarnsOfAnOperationsFormerName(t *testing.T) {
	p := newPatient(t)
	p.Put(hostpath.Policy+"/freeze.rego", "package stopguard.rules.freeze\n\nveto contains \"frozen\" if input.operation == \"tamper\"\n", 0o644)
	report := p.examine(context.Background())
	if diff := cmp.Diff([]string{"policy: warning"}, ill(report)); diff != "" {
		t.Error(diff)
	}
	for _, f := range report.Findings {
		if want := hostpath.Policy + `/freeze.rego:3 names the operation "tamper", which is called modify or delete now`; f.ID == "policy" && (f.What != want || f.Cure != "write modify, delete or both") {
			t.Errorf("%s; %s", f.What, f.Cure)
		}
	}
}
