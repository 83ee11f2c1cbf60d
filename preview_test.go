package stopguard_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stopguard/stopguard"
	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/testhost"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/record"
	"github.com/stopguard/stopguard/policy/ticket"
)

// A preview gives Decide's answer, and leaves the host as it was.
func TestAPreviewAnswersAsDecideAndChangesNothing(t *testing.T) {
	root := testhost.Root(t)
	pidFile(t, root, guest(t, pgUUID).Process.Pid)
	preview := stopguard.Preview(stopguard.Config{Root: root})
	stop := stopguard.Request{Operation: policy.OperationStop, Domain: domain(t, read(t, capture))}

	err := preview(t.Context(), stop)
	if veto, ok := errors.AsType[*hookproto.Veto](err); !ok || veto.Rule != "protection_mark" {
		t.Fatalf("without a ticket: %v", err)
	}
	if got := requestAt(t, t.TempDir(), time.Now(), stopguard.Request{Operation: "reset"}); got != (verdict{}) {
		t.Fatalf("%+v", got)
	}
	pause := stop
	pause.Operation = policy.OperationPause
	if err := preview(t.Context(), pause); err != nil {
		t.Errorf("a pause: %v", err)
	}
	pause.Operation = "destroy"
	if err := preview(t.Context(), pause); err == nil {
		t.Error("an unknown operation is allowed")
	}

	grantFor(t, root, policy.OperationStop)
	for range 2 {
		if err := preview(t.Context(), stop); err != nil {
			t.Fatalf("with a ticket: %v", err)
		}
	}
	if list, _ := (ticket.Store{Root: root}).List(time.Now()); list[0].State != ticket.Open {
		t.Errorf("the ticket is %s", list[0].State)
	}
	if _, err := os.Stat(filepath.Join(root, record.File)); err == nil {
		t.Error("a preview is recorded")
	}
	if got := requestAt(t, root, time.Now(), stopguard.Request{Operation: "stop"}); got != (verdict{}) {
		t.Errorf("Decide: %+v", got)
	}
}
