package check

import (
	"slices"

	"github.com/stopguard/stopguard/internal/glob"
	"github.com/stopguard/stopguard/internal/tool/candidate"
	"github.com/stopguard/stopguard/internal/tool/cli"
	"github.com/stopguard/stopguard/internal/tool/domains"
	"github.com/stopguard/stopguard/policy"
)

// A filter selects domains of a report. Its zero value selects all.
type filter struct {
	protected    bool   // only those that may not be stopped
	rule, domain string // only those with a reason of the rule; with a name like the pattern
}

func (f filter) isEmpty() bool { return f == filter{} }

func (f filter) check() error {
	if err := glob.Check(f.domain); err != nil {
		return cli.Usage("--domain %q %v", f.domain, err)
	}
	return nil
}

func (f filter) selects(s domains.Subject, v candidate.Verdict) bool {
	isRule := func(r policy.Reason) bool { return r.Rule == f.rule }
	return (!f.protected || v.Outcome == policy.Veto) &&
		(f.domain == "" || glob.Match(f.domain, s.Name)) &&
		(f.rule == "" || slices.ContainsFunc(slices.Concat(v.Reasons, v.Monitored), isRule))
}

// keep removes the domains that the filter does not select.
func (s *report) keep(f filter) {
	var selected report
	for i, subject := range s.subjects {
		if !f.selects(subject, s.verdicts[i]) {
			continue
		}
		selected.subjects = append(selected.subjects, subject)
		selected.verdicts = append(selected.verdicts, s.verdicts[i])
		selected.tickets = append(selected.tickets, s.tickets[i])
		if s.trial {
			selected.would = append(selected.would, s.would[i])
		}
	}
	s.subjects, s.verdicts, s.tickets, s.would = selected.subjects, selected.verdicts, selected.tickets, selected.would
}
