//go:build e2e

package e2e

import (
	"os"
	"strings"
	"testing"

	"github.com/stopguard/stopguard/internal/e2ehost"
)

// TestThePageQuotesWhatTheToolsSay compares what docs/clients.md quotes with the output of the
// clients.
func TestThePageQuotesWhatTheToolsSay(t *testing.T) {
	if e2ehost.Modular != "" {
		t.Skip("the page quotes what is said in the other layout")
	}
	page, err := os.ReadFile("../../../docs/clients.md")
	if err != nil {
		t.Fatal(err)
	}
	var output strings.Builder
	for _, s := range toolSteps(t) {
		output.WriteString(s.Got.Stdout + s.Got.Stderr)
	}
	quoted := 0
	for i, block := range strings.Split(string(page), "```") {
		if i%2 == 0 || !strings.HasPrefix(block, "\n") { // text, or commands and settings
			continue
		}
		for _, line := range strings.Split(strings.TrimSpace(block), "\n") {
			quoted++
			if !strings.Contains(output.String(), line) {
				t.Errorf("no client says %q", line)
			}
		}
	}
	if quoted < 15 {
		t.Errorf("%d lines only are quoted", quoted)
	}
}
