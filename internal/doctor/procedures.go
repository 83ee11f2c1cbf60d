package doctor

import (
	"os"
	"strings"

	"github.com/stopguard/stopguard/internal/gate/call"
)

// checkProcedures looks for calls of the host's libvirt that are newer than the gate. If libvirt
// does not list its calls, there is not a finding.
func (d *doctor) checkProcedures() {
	tapset, err := os.ReadFile(d.Path(call.Tapset))
	if err != nil {
		return
	}
	if newer, err := call.Newer(string(tapset)); err == nil && len(newer) > 0 {
		d.warning("gate-procedures", "update stopguard, or refuse them with refuse-unknown=true in gate.conf",
			"this libvirt has calls that the gate does not know, and lets pass: %s", strings.Join(newer, ", "))
	}
}
