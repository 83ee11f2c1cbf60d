package hookproto

import "testing"

func TestOnlyStopIsRefusedInTheTable(t *testing.T) {
	seen := map[Operation]bool{}
	for _, o := range Operations() {
		if o.Refuse != (o.Op == OpStop) {
			t.Errorf("%s %s: Refuse is %t", o.Driver, o.Op, o.Refuse)
		}
		if o.NonZero == "" || o.SubOp != "begin" && o.SubOp != "end" {
			t.Errorf("%+v is incomplete", o)
		}
		key := Operation{Driver: o.Driver, Op: o.Op}
		if seen[key] {
			t.Errorf("%s %s is there twice", o.Driver, o.Op)
		}
		seen[key] = true
	}
	if !seen[Operation{Driver: "qemu", Op: OpStop}] {
		t.Error("stop is missing")
	}
}

func TestOperationsAreTheCallersOwn(t *testing.T) {
	Operations()[0].Refuse = true
	if Operations()[0].Refuse {
		t.Error("a caller changed the table")
	}
}
