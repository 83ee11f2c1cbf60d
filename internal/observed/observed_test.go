package observed

import (
	"testing"

	"github.com/stopguard/stopguard/hookproto"
)

func TestAStateOfALaterLibvirtIsUnknown(t *testing.T) {
	for _, tt := range []struct {
		why, state, want string
		isUnknown        bool
	}{
		{"as libvirt writes it", "running", "running", false},
		{"no status file", "", "", true},
		{"a rule that compares it would be wrong about it", "hibernated", "", true},
	} {
		var p hookproto.Process
		p.Status.State = tt.state
		if s := State(p); s.State != tt.want || s.Unknown != tt.isUnknown {
			t.Errorf("%s: %+v", tt.why, s)
		}
	}
}
