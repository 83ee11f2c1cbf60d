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

// compareMarks returns the marks that would still be in force and are not there any more, and the
// domains that the protected list no longer matches. now is what to remember for the next check.
func compareMarks(root string, s report) (now marks.Seen, gone, unlisted []marks.Mark, err error) {
	before, err := marks.Read(root)
	if err != nil {
		return now, nil, nil, err
	}
	judged := map[string]bool{} // domains whose protection is known
	for i, subject := range s.subjects {
		// A verdict about a domain that is off is about a delete, and a mark may be for a stop alone.
		if subject.State == domains.StateOff || subject.Domain == nil || subject.Domain.MetadataErr != nil || s.verdicts[i].Err != nil {
			continue
		}
		judged[subject.UUID] = true
		if m, ok := markOf(subject, s.verdicts[i], s.at); ok {
			now.Marks = append(now.Marks, m)
		}
		if m, ok := protectionBy(listRule, subject, s.verdicts[i], s.at); ok {
			now.Listed = append(now.Listed, m)
		}
	}
	now.Marks, gone = missing(before.Marks, now.Marks, judged, s.at)
	now.Listed, unlisted = missing(before.Listed, now.Listed, judged, s.at)
	return now, gone, unlisted, nil
}

// missing returns what to remember, and which of the former protections are gone before their time.
// That of a domain that does not run is remembered for marks.KeepMarks.
func missing(before, now []marks.Mark, judged map[string]bool, at time.Time) (remembered, gone []marks.Mark) {
	remembered = now
	for _, m := range before {
		isThere := slices.ContainsFunc(now, func(other marks.Mark) bool { return other.UUID == m.UUID })
		isOver := !m.Until.IsZero() && !m.Until.After(at)
		switch {
		case isThere || isOver:
		case judged[m.UUID]:
			gone = append(gone, m)
		case at.Sub(m.Seen) < marks.KeepMarks:
			remembered = append(remembered, m)
		}
	}
	return remembered, gone
}

// markOf returns a domain's mark that is in force, from the rule that reads marks.
func markOf(s domains.Subject, v candidate.Verdict, at time.Time) (marks.Mark, bool) {
	isInForce := func(m protection.Mark) bool { return m.InForce && m.Note == "" }
	if !slices.ContainsFunc(protection.Marks(s.Domain, at), isInForce) {
		return marks.Mark{}, false
	}
	return protectionBy(markRule, s, v, at)
}

// protectionBy returns the protection of a domain by a rule. It reports whether there is one.
func protectionBy(rule string, s domains.Subject, v candidate.Verdict, at time.Time) (marks.Mark, bool) {
	m := marks.Mark{Name: s.Name, UUID: s.UUID, Seen: at.UTC().Truncate(time.Second)}
	for _, r := range slices.Concat(v.Reasons, v.Monitored) {
		if r.Rule == rule {
			m.Message, m.Until = r.Message, r.Until
		}
	}
	return m, m.Message != ""
}
