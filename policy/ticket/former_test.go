package ticket

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stopguard/stopguard/policy"
)

// A host has tickets that an older version granted.
func TestATicketOnDiskKnowsTheFormerNameOfAnOperation(t *testing.T) {
	s := empty(t)
	want := single(uuidA)
	want.Operation = policy.OperationModify
	want = s.mustGrant(t, want)
	want.Operation = "tamper"
	for name, content := range files(t, s) {
		former := strings.Replace(content, `"operation":"modify"`, `"operation":"tamper"`, 1)
		if former == content {
			t.Fatalf("a ticket is written as %s", content)
		}
		must(t, os.WriteFile(filepath.Join(s.Root, home, name), []byte(former), 0o600))
	}
	list, reports := s.List(noon)
	none(t, reports)
	if len(list) != 1 || list[0].Ticket != want {
		t.Errorf("%+v", list)
	}
	for _, operation := range []string{policy.OperationStop, policy.OperationModify, policy.OperationDelete, "tamper"} {
		got, ok, reports := s.Take(run(uuidA, 1), "pg-primary-01", operation, noon)
		none(t, reports)
		if isLifted := operation != policy.OperationStop; ok != isLifted || isLifted && got != want {
			t.Errorf("%s: %v, %+v", operation, ok, got)
		}
	}
}

func TestATicketForTheFormerNamePermitsBothOperations(t *testing.T) {
	s := empty(t)
	want := single(uuidA)
	want.Operation = "tamper"
	want = s.mustGrant(t, want)
	for operation, permits := range map[string]bool{policy.OperationModify: true, policy.OperationDelete: true, "tamper": true, policy.OperationStop: false} {
		if want.Permits(operation) != permits {
			t.Errorf("%s: %v", operation, !permits)
		}
	}
	one := single(uuidB)
	one.Operation = policy.OperationModify
	if one = s.mustGrant(t, one); one.Permits(policy.OperationDelete) || one.Permits("tamper") {
		t.Errorf("%+v permits more than it says", one)
	}
}
