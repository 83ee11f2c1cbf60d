package check

import (
	"slices"
	"time"

	"github.com/stopguard/stopguard/internal/protection"
	"github.com/stopguard/stopguard/internal/tool/candidate"
	"github.com/stopguard/stopguard/internal/tool/domains"
	"github.com/stopguard/stopguard/internal/tool/marks"
)

// markRule is the rule that reads marks.
const markRule = "protection_mark"

// compareMarks returns the marks that would still be in force and are not there any more, and
// remembers those that are.
func compareMarks(root string, s report) ([]marks.Mark, error) {
	before, err := marks.Read(root)
	if err != nil {
		return nil, err
	}
	var gone []marks.Mark
	var after marks.Seen
	judged := map[string]bool{} // domains whose marks are known
	for i, subject := range s.subjects {
		if subject.Domain == nil || subject.Domain.MetadataErr != nil || s.verdicts[i].Err != nil {
			continue
		}
		judged[subject.UUID] = true
		if m, ok := markOf(subject, s.verdicts[i], s.at); ok {
			after.Marks = append(after.Marks, m)
		}
	}
	for _, m := range before.Marks {
		there := slices.ContainsFunc(after.Marks, func(now marks.Mark) bool { return now.UUID == m.UUID })
		lapsed := !m.Until.IsZero() && !m.Until.After(s.at)
		switch {
		case there || lapsed:
		case judged[m.UUID]:
			gone = append(gone, m)
		case s.at.Sub(m.Seen) < marks.KeepMarks:
			after.Marks = append(after.Marks, m)
		}
	}
	return gone, marks.Write(root, after)
}

// markOf returns a domain's mark that is in force, from the rule that reads marks.
func markOf(s domains.Subject, v candidate.Verdict, at time.Time) (marks.Mark, bool) {
	isInForce := func(m protection.Mark) bool { return m.InForce && m.Note == "" }
	if !slices.ContainsFunc(protection.Marks(s.Domain, at), isInForce) {
		return marks.Mark{}, false
	}
	m := marks.Mark{Name: s.Name, UUID: s.UUID, Seen: at.UTC().Truncate(time.Second)}
	for _, r := range slices.Concat(v.Reasons, v.Monitored) {
		if r.Rule == markRule {
			m.Message, m.Until = r.Message, r.Until
		}
	}
	return m, m.Message != ""
}
