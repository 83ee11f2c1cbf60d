// Package gorules finds the rules in Go that the hooks of a host have and the tool does not have.
package gorules

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stopguard/stopguard/internal/tool/cli"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/record"
)

const (
	// maxTail bounds the bytes at the end of the record that are read.
	maxTail = 1 << 20

	// maxDecisions is the number of decisions for which a rule is remembered after its last
	// evaluation.
	maxDecisions = 100
)

// Missing returns the sorted names of the rules that decide on this host and that the engine does
// not have. They are in the site's settings, or in the last recorded decisions.
func Missing(engine *policy.Engine) []string {
	missing := slices.Concat(engine.MissingGoRules(), recorded(filepath.Join("/", cli.HostRoot(), record.File)))
	missing = slices.DeleteFunc(missing, func(name string) bool { return slices.Contains(engine.GoRules(), name) })
	slices.Sort(missing)
	return slices.Compact(missing)
}

// Warn prints the rules that were not evaluated. Otherwise an allow would look complete.
func Warn(c *cobra.Command, engine *policy.Engine) {
	if missing := Missing(engine); len(missing) > 0 {
		cli.Warn(c, "%s", Text(missing))
	}
}

// Text returns the warning that rules were not evaluated.
func Text(missing []string) string {
	return "rules written in Go were not asked, for they are in the site's own hook alone: " + strings.Join(missing, ", ") +
		"; look at its decisions with stopguard log"
}

// recorded returns the rules in Go of the last recorded decisions; nil if the record cannot be
// read.
func recorded(file string) []string {
	f, err := os.Open(file)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil
	} else if _, err := f.Seek(max(0, info.Size()-maxTail), io.SeekStart); err != nil {
		return nil
	}
	tail, err := io.ReadAll(io.LimitReader(f, maxTail))
	if err != nil {
		return nil
	}
	var names []string
	lines := bytes.Split(tail, []byte("\n"))
	decisions := 0
	for _, line := range slices.Backward(lines) {
		var e struct {
			Result struct {
				Outcome string
				GoRules []string `json:"go_rules"`
			}
		}
		if json.Unmarshal(line, &e) != nil || e.Result.Outcome != record.Allow && e.Result.Outcome != record.Veto {
			continue
		}
		names = append(names, e.Result.GoRules...)
		if decisions++; decisions == maxDecisions {
			break
		}
	}
	return names
}
