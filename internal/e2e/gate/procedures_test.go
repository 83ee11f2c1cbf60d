//go:build e2e

package e2e

import (
	"os"
	"testing"

	"github.com/stopguard/stopguard/internal/gate/call"
)

func TestTheTableKnowsEveryProcedureOfTheInstalledLibvirt(t *testing.T) {
	tapset, err := os.ReadFile(call.Tapset)
	if err != nil {
		t.Fatal(err)
	}
	newer, err := call.Newer(string(tapset))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range newer {
		t.Errorf("the gate does not know %s; add it to package call", name)
	}
}
