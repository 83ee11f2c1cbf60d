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
	for _, operation := range []string{policy.OperationStop, policy.OperationModify, "tamper"} {
		got, ok, reports := s.Take(run(uuidA, 1), "pg-primary-01", operation, noon)
		none(t, reports)
		if isLifted := operation != policy.OperationStop; ok != isLifted || isLifted && got != want {
			t.Errorf("%s: %v, %+v", operation, ok, got)
		}
	}
}

func TestATicketIsGrantedForThePresentName(t *testing.T) {
	s := empty(t)
	want := single(uuidA)
	want.Operation = "tamper"
	if got := s.mustGrant(t, want); got.Operation != policy.OperationModify {
		t.Errorf("%+v", got)
	}
	for name, content := range files(t, s) {
		if !strings.Contains(content, `"operation":"modify"`) {
			t.Errorf("%s: %s", name, content)
		}
	}
}
