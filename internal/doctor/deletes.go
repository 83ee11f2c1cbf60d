package doctor

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/stopguard/stopguard"
	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/terminal"
	"github.com/stopguard/stopguard/policy"
)

// definitions are the files of the domains that libvirt knows, whether they run or not.
const definitions = "/etc/libvirt/qemu/*.xml"

// checkDeletes lists the domains that must not be deleted. Versions without that operation let
// them be undefined, and scripts may count on it.
func (d *doctor) checkDeletes(ctx context.Context, engine *policy.Engine) {
	var refused, monitored []string
	files, _ := filepath.Glob(d.Path(definitions)) // an error is about the pattern
	for _, file := range files {
		decision, name, err := d.decideDelete(ctx, engine, file)
		switch {
		case err != nil: // a domain may be undefined at any time, and check reports what cannot be decided
		case decision.Outcome == policy.Veto:
			refused = append(refused, terminal.Clean(name))
		case len(decision.Monitored) > 0:
			monitored = append(monitored, terminal.Clean(name))
		}
	}
	shown := func(names []string) string { return joinShown(names[:min(len(names), maxShown)], len(names)) }
	switch {
	case len(refused) == 0 && len(monitored) == 0:
		d.ok("deletes", "no domain is protected against a delete")
	case len(refused) == 0:
		d.ok("deletes", "a gate records a delete of %s, and refuses none", shown(monitored))
	default:
		d.ok("deletes", "a gate refuses a delete of %s: undefine, a lost saved state, destroyed disks", shown(refused))
	}
}

// decideDelete decides about a delete of the domain that a file of libvirt's defines.
func (d *doctor) decideDelete(ctx context.Context, engine *policy.Engine, file string) (policy.Decision, string, error) {
	xml, err := os.ReadFile(file)
	if err != nil {
		return policy.Decision{}, "", err
	}
	domain, err := domainxml.Parse(xml)
	if err != nil {
		return policy.Decision{}, "", err
	}
	in, err := stopguard.Config{Root: d.Root}.Input(engine, domain, hookproto.Process{})
	if err != nil {
		return policy.Decision{}, "", err
	}
	in.Operation, in.Time = policy.OperationDelete, time.Now()
	decision, err := engine.Decide(ctx, in)
	return decision, domain.Name, err
}

// monitoredOperations returns the operations against which a site enforces no rule at all: "*" for
// all of them.
func monitoredOperations(site map[string]any) []string {
	entries, _ := site["monitor"].([]any)
	var operations []string
	for _, entry := range entries {
		text, _ := entry.(string)
		if text == "*" {
			return []string{"*"}
		}
		if name, isOne := strings.CutPrefix(text, "*/"); isOne && !slices.Contains(operations, name) {
			operations = append(operations, name)
		}
	}
	return operations
}
