package doctor

import (
	"errors"
	"slices"

	"github.com/stopguard/stopguard/internal/hostpath"
	"github.com/stopguard/stopguard/internal/problem"
	"github.com/stopguard/stopguard/policy/hostpolicy"
)

// maxShown bounds the entries or files that a finding names.
const maxShown = 3

// checkEntries looks for entries of the protected list that would not protect a domain, or another
// one than they seem to.
func (d *doctor) checkEntries() {
	warnings := slices.DeleteFunc(hostpolicy.ListWarnings(d.Root), func(err error) bool {
		return errors.Is(err, hostpolicy.ErrUnmatched) // the domain may be on another host
	})
	if len(warnings) == 0 {
		d.ok("list-entries", "none looks like a slip")
		return
	}
	d.warning("list-entries", cureOf(warnings, "write the bare name, glob or UUID, one a line, in "+d.Path(hostpath.List)),
		"entries that may not protect what they were written for: %s", shown(warnings))
}

// checkUnread looks for rules, lists and bundles in places where they are not read.
func (d *doctor) checkUnread() {
	warnings := hostpolicy.Unread(d.Root)
	if len(warnings) == 0 {
		d.ok("unread", "nothing lies beside the files that are read")
		return
	}
	d.warning("unread", cureOf(warnings, "move what is meant to count into "+d.Path(hostpath.Policy)+", and remove the rest"), "%s", shown(warnings))
}

// cureOf returns the cure of a single warning, or forMany.
func cureOf(warnings []error, forMany string) string {
	if len(warnings) == 1 {
		_, cure := problem.Split(warnings[0])
		return cure
	}
	return forMany
}

// shown returns the texts of the first warnings, and the number of the rest.
func shown(warnings []error) string {
	var texts []string
	for _, w := range warnings[:min(len(warnings), maxShown)] {
		what, _ := problem.Split(w)
		texts = append(texts, what)
	}
	return joinShown(texts, len(warnings))
}
