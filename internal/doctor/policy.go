package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/stopguard/stopguard/internal/hostfile"
	"github.com/stopguard/stopguard/internal/hostpath"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/hostpolicy"
)

// loadTime bounds the loading of the policy.
const loadTime = 10 * time.Second

// checkPolicy loads the files that the hook would load. An error in one of them refuses every stop.
// It starts with the files that the others depend on, because an error hides those that follow. It
// returns nil after an error.
func (d *doctor) checkPolicy(ctx context.Context) *policy.Engine {
	ctx, cancel := context.WithTimeout(ctx, loadTime)
	defer cancel()
	d.checkUnread()
	if !d.checkList(ctx) {
		return nil
	}
	config, err := hostpolicy.Load(d.Root)
	if err != nil {
		d.policyError("policy", err)
		return nil
	}
	engine, err := policy.New(ctx, config)
	if err != nil {
		if strings.Contains(err.Error(), "data.site") {
			d.ok("policy", "its files can be read")
			d.policyError("settings", err)
		} else {
			d.policyError("policy", err)
		}
		return nil
	}
	d.checkWarnings(engine.Warnings(), len(config.Sites) > 0)
	settings, err := policy.ReadSettings(config.Sites)
	if err != nil {
		d.policyError("settings", err)
		return nil
	}
	d.checkSettings(settings)
	d.checkDeletes(ctx, engine)
	d.checkNotify(engine.Notify())
	return engine
}

// checkList reports whether the protected list can be loaded, or is missing.
func (d *doctor) checkList(ctx context.Context) bool {
	list, err := hostfile.Root(d.Root).Read(hostpath.List, 16<<20)
	if errors.Is(err, fs.ErrNotExist) {
		d.ok("list", "there is none: %s", d.Path(hostpath.List))
		return true
	}
	if err == nil {
		_, err = policy.New(ctx, policy.Config{List: list, ListName: hostpath.List})
	}
	if err != nil {
		d.policyError("list", err)
		return false
	}
	d.ok("list", "%s", d.Path(hostpath.List))
	d.checkEntries()
	return true
}

// checkWarnings reports the warnings of a policy that can be loaded.
func (d *doctor) checkWarnings(all []error, hasSite bool) {
	var warnings, broad []error
	for _, warning := range all {
		if errors.Is(warning, policy.ErrEveryOperation) {
			broad = append(broad, warning)
		} else {
			warnings = append(warnings, warning)
		}
	}
	// Without a gate, only stops are decided.
	if len(broad) > 0 && d.Host.Enforcement(policy.OperationReset).Enforced {
		d.warning("operations", "compare input.operation with the operations that each is for", "%s", shown(broad))
	}
	if len(warnings) > 0 {
		d.warning("policy", cureOf(warnings, "write "+policy.OperationModify+", "+policy.OperationDelete+" or both"), "%s", shown(warnings))
	} else if !hasSite {
		d.ok("policy", "there is none of the site's own: %s", d.Path(hostpath.Policy))
	} else {
		d.ok("policy", "it can be loaded")
	}
}

func (d *doctor) policyError(id string, err error) {
	d.addError(severityFailure, id, fmt.Errorf("every stop is refused: %w", err))
}

func (d *doctor) checkSettings(site map[string]any) {
	switch monitored := monitoredOperations(site); {
	case slices.Contains(monitored, "*"):
		d.warning("settings", `take "*" out of data.site.monitor`, "no rule is enforced: every one is only monitored")
	case len(monitored) > 0:
		d.warning("settings", fmt.Sprintf("take %q out of data.site.monitor", "*/"+monitored[0]), "no rule is enforced against a %s: every one is only monitored", strings.Join(monitored, ", "))
	default:
		d.ok("settings", "nothing is wrong with them")
	}
	d.checkCluster(site)
}
