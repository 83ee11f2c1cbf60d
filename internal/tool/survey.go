package tool

import (
	"fmt"
	"slices"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/spf13/cobra"

	"github.com/stopguard/stopguard/internal/recorded"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/record"
)

// A survey is written as a table for people, as JSON, and as metrics.

// outcome is the verdict in one word.
func (v verdict) outcome() string {
	if v.err != nil {
		return policy.Fault.String()
	}
	return v.Outcome.String()
}

// rules names the rules that are against the stop, each once.
func (v verdict) rules() string {
	var names []string
	add := func(name string) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, r := range v.Reasons {
		add(r.Rule)
	}
	why := v.Unenforced
	if why == "" {
		why = "monitored"
	}
	for _, r := range v.Monitored {
		add(r.Rule + " (" + why + ")")
	}
	switch {
	case v.err != nil:
		return "see below"
	case len(names) == 0:
		return "-"
	}
	return strings.Join(names, ", ")
}

func writeTable(c *cobra.Command, s survey) error {
	if s.trial {
		return writeChanges(c, s)
	}
	out, colour := c.OutOrStdout(), paintFor(c.OutOrStdout())
	const name, until = 27, 17
	stop := max(5, len(s.asked))
	count := map[string]int{}
	fmt.Fprintln(out, row([]string{"DOMAIN", strings.ToUpper(s.asked), "UNTIL", "RULE"}, name, stop, until))
	for i, subject := range s.subjects {
		v := s.verdicts[i]
		count[v.outcome()]++
		rest := row([]string{shownTime(v.Until()), v.rules()}, until)
		fmt.Fprintf(out, "%s  %s  %s\n", cell(subject.name, name), colour.outcome(v.outcome(), cell(v.outcome(), stop)), cut(rest, width-name-stop-4))
	}
	what := "domain"
	if s.running {
		what = "running domain"
	}
	fmt.Fprintf(out, "\n%s, %d protected, %d could not be decided\n", counted(len(s.subjects), what), count["veto"], count["fault"])
	for _, m := range s.gone {
		fmt.Fprintln(out, colour.in(red, cut("mark gone: "+m.Name+": "+m.Message, width)))
		fmt.Fprintf(out, "  last seen at %s; set it again, or look who removed it\n", m.Seen.Format(time.RFC3339))
	}
	return nil
}

// writeChanges writes what a candidate would change.
func writeChanges(c *cobra.Command, s survey) error {
	out, colour := c.OutOrStdout(), paintFor(c.OutOrStdout())
	const name, change, now = 25, 13, 18
	count := map[string]int{}
	header := row([]string{"DOMAIN", "CHANGE", "RULE NOW", "RULE THEN"}, name, change, now) + "\n"
	for i, subject := range s.subjects {
		before, then := s.verdicts[i], s.would[i]
		what := changeOf(before, then)
		if count[what]++; what == "" {
			continue
		}
		fmt.Fprint(out, header)
		header = ""
		line := row([]string{subject.name, what, before.rules(), then.rules()}, name, change, now)
		fmt.Fprintln(out, strings.Replace(line, what, colour.in(map[string]string{newlyVetoed: yellow, newlyAllowed: green, newlyFault: red}[what], what), 1))
		for _, r := range slices.Concat(then.Reasons, then.Monitored) {
			fmt.Fprintln(out, cut("    "+r.Rule+": "+r.Message, width))
		}
	}
	if header == "" {
		fmt.Fprintln(out)
	}
	var parts []string
	for _, what := range changes {
		parts = append(parts, fmt.Sprintf("%d %s", count[what], what))
	}
	fmt.Fprintf(out, "of %s: %s\n", counted(len(s.subjects), "domain"), strings.Join(parts, ", "))
	return nil
}

// The shape of -o json.
type (
	surveyJSON struct {
		Time      time.Time    `json:"time"`
		Operation string       `json:"operation,omitempty"` // with --operation; a stop if absent
		Domains   []domainJSON `json:"domains"`
		Gone      []seenMark   `json:"marks_gone"`
	}
	domainJSON struct {
		Name string `json:"name"`
		UUID string `json:"uuid"`
		verdictJSON
		Change    string       `json:"change,omitempty"` // with --policy
		Candidate *verdictJSON `json:"candidate,omitempty"`
	}
	verdictJSON struct {
		Outcome    string          `json:"outcome"`
		Until      time.Time       `json:"until,omitzero"`
		Reasons    []record.Reason `json:"reasons"`
		Monitored  []record.Reason `json:"monitored"`
		Unenforced string          `json:"unenforced,omitempty"`
		Fault      string          `json:"fault,omitempty"`
		Revision   string          `json:"revision,omitempty"`
	}
)

func (v verdict) json() verdictJSON {
	j := verdictJSON{
		Outcome: v.outcome(), Until: v.Until(), Reasons: recorded.Reasons(v.Reasons), Monitored: recorded.Reasons(v.Monitored),
		Unenforced: v.Unenforced, Revision: v.Revision,
	}
	if v.err != nil {
		j.Fault = v.err.Error()
	}
	return j
}

func writeSurvey(c *cobra.Command, s survey) error {
	j := surveyJSON{Time: s.at.UTC().Truncate(time.Second), Domains: []domainJSON{}, Gone: append([]seenMark{}, s.gone...)}
	if s.asked != policy.OperationStop {
		j.Operation = s.asked
	}
	for i, subject := range s.subjects {
		d := domainJSON{Name: subject.name, UUID: subject.uuid, verdictJSON: s.verdicts[i].json()}
		if s.trial {
			then := s.would[i].json()
			d.Change, d.Candidate = changeOf(s.verdicts[i], s.would[i]), &then
		}
		j.Domains = append(j.Domains, d)
	}
	return writeJSON(c.OutOrStdout(), j)
}

// writeMetrics writes the format of node_exporter's textfile collector.
func writeMetrics(c *cobra.Command, s survey) error {
	protected := family("stopguard_domain_protected", "Whether a stop of the running domain would be refused, by which rule; 0 without a rule if not.")
	until := family("stopguard_domain_protected_until_seconds", "When that reason lapses by itself, in seconds since 1970; absent if it does not.")
	gone := family("stopguard_marks_gone", "Protection marks that have gone since the last check.")
	faults := family("stopguard_check_faults", "Domains of which could not be decided whether they are protected.")
	failed := float64(len(s.faults))
	for i, subject := range s.subjects {
		v := s.verdicts[i]
		label := func(rule string) []string {
			return []string{"domain", clean(subject.name), "uuid", subject.uuid, "rule", rule}
		}
		switch {
		case v.err != nil:
			failed++
			continue
		case len(v.Reasons) == 0:
			add(protected, 0, label("")...)
			continue
		}
		for j := 0; j < len(v.Reasons); {
			// A rule may have several reasons; it is in the way until the last has lapsed.
			rule, last, lapses := v.Reasons[j].Rule, time.Time{}, true
			for ; j < len(v.Reasons) && v.Reasons[j].Rule == rule; j++ {
				lapses = lapses && !v.Reasons[j].Until.IsZero()
				if v.Reasons[j].Until.After(last) {
					last = v.Reasons[j].Until
				}
			}
			add(protected, 1, label(rule)...)
			if lapses {
				add(until, float64(last.Unix()), label(rule)...)
			}
		}
	}
	add(gone, float64(len(s.gone)))
	add(faults, failed)
	for _, f := range []*dto.MetricFamily{protected, until, gone, faults} {
		if len(f.Metric) == 0 {
			continue
		}
		if _, err := expfmt.MetricFamilyToText(c.OutOrStdout(), f); err != nil {
			return err
		}
	}
	return nil
}

func family(name, help string) *dto.MetricFamily {
	return &dto.MetricFamily{Name: &name, Help: &help, Type: dto.MetricType_GAUGE.Enum()}
}

func add(f *dto.MetricFamily, value float64, labels ...string) {
	m := &dto.Metric{Gauge: &dto.Gauge{Value: &value}}
	for i := 0; i < len(labels); i += 2 {
		m.Label = append(m.Label, &dto.LabelPair{Name: &labels[i], Value: &labels[i+1]})
	}
	f.Metric = append(f.Metric, m)
}
