package check

import (
	"slices"
	"time"

	"github.com/stopguard/stopguard/internal/protection"
	"github.com/stopguard/stopguard/internal/tool/candidate"
	"github.com/stopguard/stopguard/internal/tool/domains"
	"github.com/stopguard/stopguard/internal/tool/marks"
)

// The rules that read marks and the protected list.
const (
	markRule = "protection_mark"
	listRule = "protected_list"
)

// compareMarks returns the marks that have disappeared although they had not lapsed. It also
// returns the domains that the protected list no longer matches. now is the state to store for the
// next check.
func compareMarks(root string, s report) (now marks.Seen, gone, unlisted []marks.Mark, err error) {
	before, err := marks.Read(root)
	if err != nil {
		return now, nil, nil, err
	}
	isKnown := map[string]bool{} // domains whose protection is known
	for i, subject := range s.subjects {
		// A verdict about a domain that is off is about a delete, and a mark may be for a stop
		// alone.
		if subject.State == domains.StateOff || subject.Domain == nil || subject.Domain.MetadataErr != nil || s.verdicts[i].Err != nil {
			continue
		}
		isKnown[subject.UUID] = true
		if m, ok := markOf(subject, s.verdicts[i], s.at); ok {
			now.Marks = append(now.Marks, m)
		}
		if m, ok := protectionBy(listRule, subject, s.verdicts[i], s.at); ok {
			now.Listed = append(now.Listed, m)
		}
	}
	now.Marks, gone = missing(before.Marks, now.Marks, isKnown, s.at)
	now.Listed, unlisted = missing(before.Listed, now.Listed, isKnown, s.at)
	return now, gone, unlisted, nil
}

// missing returns the protections to store, and the former ones that have disappeared before their
// end. The protection of a domain that does not run is stored for marks.KeepMarks.
func missing(before, now []marks.Mark, isKnown map[string]bool, at time.Time) (stored, gone []marks.Mark) {
	stored = now
	for _, m := range before {
		exists := slices.ContainsFunc(now, func(other marks.Mark) bool { return other.UUID == m.UUID })
		isOver := !m.Until.IsZero() && !m.Until.After(at)
		switch {
		case exists || isOver:
		case isKnown[m.UUID]:
			gone = append(gone, m)
		case at.Sub(m.Seen) < marks.KeepMarks:
			stored = append(stored, m)
		}
	}
	return stored, gone
}

// markOf returns a domain's mark that is in force, as the rule that reads marks reports it.
func markOf(s domains.Subject, v candidate.Verdict, at time.Time) (marks.Mark, bool) {
	isInForce := func(m protection.Mark) bool { return m.InForce && m.Note == "" }
	if !slices.ContainsFunc(protection.Marks(s.Domain, at), isInForce) {
		return marks.Mark{}, false
	}
	return protectionBy(markRule, s, v, at)
}

// protectionBy returns the protection of a domain by a rule. It reports whether the domain has one.
func protectionBy(rule string, s domains.Subject, v candidate.Verdict, at time.Time) (marks.Mark, bool) {
	m := marks.Mark{Name: s.Name, UUID: s.UUID, Seen: at.UTC().Truncate(time.Second)}
	for _, r := range slices.Concat(v.Reasons, v.Monitored) {
		if r.Rule == rule {
			m.Message, m.Until = r.Message, r.Until
		}
	}
	return m, m.Message != ""
}
