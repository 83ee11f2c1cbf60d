package hookproto

import "testing"

func TestTheTableIsWhole(t *testing.T) {
	seen := map[Operation]bool{}
	for _, o := range Operations() {
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
	Operations()[0].NonZero = "nothing"
	if Operations()[0].NonZero == "nothing" {
		t.Error("a caller changed the table")
	}
}
