package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stopguard/stopguard"
	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/terminal"
	"github.com/stopguard/stopguard/policy"
)

// checkDeletes lists the domains that must not be deleted. Versions without that operation let
// them be undefined, and scripts may count on it.
func (d *doctor) checkDeletes(ctx context.Context, engine *policy.Engine) {
	var refused, monitored []string
	var undecided []error
	for _, one := range d.defined {
		name := terminal.Clean(one.Name)
		decision, err := d.decideDelete(ctx, engine, one.Domain)
		switch {
		case err != nil:
			undecided = append(undecided, fmt.Errorf("%s: %w", name, err))
		case decision.Outcome == policy.Veto:
			refused = append(refused, name)
		case len(decision.Monitored) > 0:
			monitored = append(monitored, name)
		}
	}
	names := func(all []string) string { return joinShown(all[:min(len(all), maxShown)], len(all)) }
	switch {
	case len(undecided) > 0:
		d.warning("deletes", "see stopguard check --all", "it cannot be decided about a delete of some domains: %s", shown(undecided))
	case len(refused) > 0:
		d.ok("deletes", "a gate refuses a delete of %s: undefine, a lost saved state, destroyed disks", names(refused))
	case len(monitored) > 0:
		d.ok("deletes", "a gate records a delete of %s, and refuses none", names(monitored))
	default:
		d.ok("deletes", "no domain is protected against a delete")
	}
}

func (d *doctor) decideDelete(ctx context.Context, engine *policy.Engine, domain *domainxml.Domain) (policy.Decision, error) {
	in, err := stopguard.Config{Root: d.Root}.Input(engine, domain, hookproto.Process{})
	if err != nil {
		return policy.Decision{}, err
	}
	in.Operation, in.Time = policy.OperationDelete, time.Now()
	return engine.Decide(ctx, in)
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
