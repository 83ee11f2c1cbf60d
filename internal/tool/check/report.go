package check

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/spf13/cobra"

	"github.com/stopguard/stopguard/internal/host"
	"github.com/stopguard/stopguard/internal/protection"
	"github.com/stopguard/stopguard/internal/recorded"
	"github.com/stopguard/stopguard/internal/terminal"
	"github.com/stopguard/stopguard/internal/tool/candidate"
	"github.com/stopguard/stopguard/internal/tool/cli"
	"github.com/stopguard/stopguard/internal/tool/domains"
	"github.com/stopguard/stopguard/internal/tool/gorules"
	"github.com/stopguard/stopguard/internal/tool/marks"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/hostpolicy"
	"github.com/stopguard/stopguard/policy/record"
)

// A report has the results of a check.
type report struct {
	at        time.Time
	operation string
	deletes   bool // the operation is a delete for domains that are off
	running   bool // the subjects are all running domains
	all       bool // the subjects may be off
	wide      bool // the table has all columns
	trial     bool // a candidate is compared
	subjects  []domains.Subject
	verdicts  []candidate.Verdict
	would     []candidate.Verdict // with the candidate, in a trial
	gone      []marks.Mark        // marks that a former check saw
	unlisted  []marks.Mark        // domains that the protected list matched at a former check
	faults    []error             // in addition to those of the verdicts
	enforced  host.Enforcement
	notAsked  []string      // rules in Go, which the tool cannot evaluate
	husks     []host.Domain // left by failed migrations
	warnings  []error       // about the policy, or the candidate
	ending    []host.Domain // protected domains that end with a client's connection
	tickets   []string      // the ticket for each subject that would lift the veto, or ""
	reports   []error       // about tickets that cannot be read

	approvals *policy.Approvals // the site's rules for tickets
}

// operationOf returns the operation that a subject's verdict is about.
func (s report) operationOf(subject domains.Subject) string {
	if s.deletes && subject.State == domains.StateOff {
		return policy.OperationDelete
	}
	return s.operation
}

// refuses reports whether one of the operations would be refused.
func (s report) refuses() bool {
	for i, v := range s.verdicts {
		if v.Outcome == policy.Veto && s.tickets[i] == "" {
			return true
		}
	}
	return false
}

// printFaults prints the faults in full, and returns their number.
func (s report) printFaults(c *cobra.Command) int {
	n := 0
	printed := map[string]bool{} // a broken policy has the same fault for every domain
	for _, err := range s.faults {
		cli.Warn(c, "%v", err)
		n++
	}
	needsRoot := false
	for i, subject := range s.subjects {
		for _, v := range [][]candidate.Verdict{s.verdicts, s.would} {
			if i >= len(v) || v[i].Err == nil {
				continue
			}
			n++
			if line := cli.NeedsRoot(v[i].Err); line != nil {
				if !needsRoot {
					cli.Warn(c, "%v", line)
				}
				needsRoot = true
				continue
			}
			if text := v[i].Err.Error(); !printed[text] {
				printed[text] = true
				cli.Warn(c, "%s: %s", subject.Name, text)
			}
		}
	}
	return n
}

// warn prints warnings beside a table: about missing enforcement points, rules in Go that were not
// evaluated, and errors in the policy. If the report is about the whole host, it also warns about
// the domains and the list.
func (s report) warn(c *cobra.Command, isWhole bool) {
	s.warnUnenforced(c)
	if len(s.notAsked) > 0 {
		cli.Warn(c, "%s", gorules.Text(s.notAsked))
	}
	warnAll(c, s.warnings)
	if s.running && !s.trial && isWhole {
		root := cli.HostRoot()
		s.warnDomains(c)
		warnAll(c, append(hostpolicy.ListWarnings(root), hostpolicy.Unread(root)...))
	}
}

// warnUnenforced warns if this host does not have an enforcement point for the operations of the
// verdicts.
func (s report) warnUnenforced(c *cobra.Command) {
	isDelete := func(subject domains.Subject) bool { return s.operationOf(subject) != s.operation }
	if text := s.enforced.Text(s.operation); text != "" {
		cli.Warn(c, "%s", text)
	} else if slices.ContainsFunc(s.subjects, isDelete) {
		cli.WarnUnenforced(c, policy.OperationDelete)
	}
}

func (s report) warnDomains(c *cobra.Command) {
	for _, domain := range s.husks {
		what, cure := domain.HuskText()
		cli.Warn(c, "%s; %s", what, cure)
	}
	for _, domain := range s.ending {
		what, cure := domain.AutodestroyText()
		cli.Warn(c, "%s; %s", what, cure)
	}
}

// A report is written as a table for people, as JSON, and as metrics.

func writeTable(c *cobra.Command, s report) error {
	if s.trial {
		return writeChanges(c, s)
	}
	var t terminal.Table
	count := map[string]int{}
	header, decision := []string{"DOMAIN", strings.ToUpper(s.operation), "UNTIL", "RULE"}, 1
	if s.all {
		header, decision = []string{"DOMAIN", "STATE", "OPERATION", "DECISION", "UNTIL", "RULE"}, 3
	}
	if s.wide {
		header = append(header, "UUID", "TICKET", "REASON")
	}
	t.Row(header...)
	for i, subject := range s.subjects {
		v := s.verdicts[i]
		count[v.Word()]++
		cells := []string{subject.Name}
		if s.all {
			cells = append(cells, cmp.Or(subject.State, "-"), s.operationOf(subject))
		}
		cells = append(cells, v.Word(), untilOf(subject, v, s.at), v.Rules())
		if s.wide {
			cells = append(cells, cmp.Or(subject.UUID, "-"), cmp.Or(s.tickets[i], "-"), reasonsText(v))
		}
		t.Row(cells...).Colour(decision, terminal.OutcomeColour(v.Word()))
	}
	out, colour := c.OutOrStdout(), terminal.PaintFor(c.OutOrStdout())
	if err := t.Write(out); err != nil {
		return err
	}
	noun := "domain"
	if s.running && !s.all {
		noun = "running domain"
	}
	fmt.Fprintf(out, "\n%s, %d protected, %d could not be decided\n", terminal.Counted(len(s.subjects), noun), count["veto"], count["fault"])
	width := terminal.WidthOf(out)
	for _, m := range s.gone {
		fmt.Fprintln(out, colour.In(terminal.Red, terminal.Cut("mark gone: "+m.Name+": "+m.Message, width)))
		fmt.Fprintf(out, "  last seen at %s; set it again, or look who removed it\n", m.Seen.Format(time.RFC3339))
	}
	for _, m := range s.unlisted {
		fmt.Fprintln(out, colour.In(terminal.Red, terminal.Cut("off the list: "+m.Name+": "+m.Message, width)))
		fmt.Fprintf(out, "  last matched at %s; add it again, or look who changed it\n", m.Seen.Format(time.RFC3339))
	}
	for i, id := range s.tickets {
		if id != "" && s.verdicts[i].Outcome == policy.Veto {
			fmt.Fprintf(out, "ticket %s lets %s be %s\n", id, terminal.Clean(s.subjects[i].Name), cli.Operated[s.operationOf(s.subjects[i])])
		}
	}
	for _, r := range s.reports {
		cli.Warn(c, "%v", r)
	}
	return nil
}

// maxUntil is the length of a time in RFC 3339 with nanoseconds. The time in a mark may be longer.
const maxUntil = len(time.RFC3339Nano)

// untilOf returns the time at which the last reason lapses. If it comes from a mark, it is returned
// as written.
func untilOf(s domains.Subject, v candidate.Verdict, at time.Time) string {
	until := v.Until()
	if s.Domain != nil && !until.IsZero() {
		for _, m := range protection.Marks(s.Domain, at) {
			if m.InForce && m.Lapses.Equal(until) && len(m.Until) <= maxUntil {
				return m.Until
			}
		}
	}
	return cli.ShownTime(until)
}

// reasonsText returns the messages of all reasons.
func reasonsText(v candidate.Verdict) string {
	var texts []string
	for _, r := range slices.Concat(v.Reasons, v.Monitored) {
		texts = append(texts, r.Message)
	}
	if v.Err != nil {
		texts = append(texts, v.Err.Error())
	}
	return cmp.Or(strings.Join(texts, "; "), "-")
}

// writeNames writes only the names, one a line.
func writeNames(c *cobra.Command, s report) error {
	for _, subject := range s.subjects {
		if _, err := fmt.Fprintln(c.OutOrStdout(), terminal.Clean(subject.Name)); err != nil {
			return err
		}
	}
	return nil
}

// writeChanges writes a candidate's effects.
func writeChanges(c *cobra.Command, s report) error {
	out := c.OutOrStdout()
	count := map[string]int{}
	var t terminal.Table
	for i, subject := range s.subjects {
		before, then := s.verdicts[i], s.would[i]
		what := candidate.ChangeOf(before, then)
		if count[what]++; what == "" {
			continue
		}
		if t.IsEmpty() {
			t.Row("DOMAIN", "CHANGE", "RULE NOW", "RULE THEN")
		}
		t.Row(subject.Name, what, before.Rules(), then.Rules()).
			Colour(1, map[string]string{candidate.NewlyVetoed: terminal.Yellow, candidate.NewlyAllowed: terminal.Green, candidate.NewlyFault: terminal.Red}[what])
		for _, r := range slices.Concat(then.Reasons, then.Monitored) {
			t.Line("    " + r.Rule + ": " + r.Message)
		}
	}
	if !t.IsEmpty() {
		if err := t.Write(out); err != nil {
			return err
		}
		fmt.Fprintln(out)
	}
	var parts []string
	for _, what := range candidate.Changes {
		parts = append(parts, fmt.Sprintf("%d %s", count[what], what))
	}
	fmt.Fprintf(out, "of %s: %s\n", terminal.Counted(len(s.subjects), "domain"), strings.Join(parts, ", "))
	return nil
}

// The shape of -o json.
type (
	ReportJSON struct {
		Time      time.Time    `json:"time"`
		Operation string       `json:"operation,omitempty"` // with --operation; a stop if absent
		Domains   []domainJSON `json:"domains"`
		Gone      []marks.Mark `json:"marks_gone"`
		Unlisted  []marks.Mark `json:"listed_gone,omitempty"`
		host.Enforcement
		NotAsked []string      `json:"rules_not_asked,omitempty"` // written in Go, in the site's own hook
		Husks    []host.Domain `json:"husks,omitempty"`
		Ending   []host.Domain `json:"ending_with_a_connection,omitempty"`
	}
	domainJSON struct {
		Name      string `json:"name"`
		UUID      string `json:"uuid"`
		State     string `json:"state,omitempty"`     // running or off; absent if the domain comes from a file
		Operation string `json:"operation,omitempty"` // only if it differs from the report's
		verdictJSON
		Marks     []markJSON   `json:"marks,omitempty"`     // in force
		Ticket    string       `json:"ticket,omitempty"`    // the ticket that would lift the veto
		Approvals int          `json:"approvals,omitempty"` // number of approvals that a ticket needs
		Change    string       `json:"change,omitempty"`    // with --policy
		Candidate *verdictJSON `json:"candidate,omitempty"`
	}
	markJSON struct {
		Reason     string   `json:"reason"`
		Owner      string   `json:"owner"`
		Until      string   `json:"until"`      // as written
		Operations []string `json:"operations"` // named in it
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

// marksOf returns the marks of a domain that are in force.
func marksOf(s domains.Subject, at time.Time) (all []markJSON) {
	if s.Domain == nil {
		return nil
	}
	for _, m := range protection.Marks(s.Domain, at) {
		if m.InForce && m.Note == "" {
			all = append(all, markJSON{m.Reason, m.Owner, m.Until, append([]string{}, m.Named...)})
		}
	}
	return all
}

func jsonOf(v candidate.Verdict) verdictJSON {
	j := verdictJSON{
		Outcome: v.Word(), Until: v.Until(), Reasons: recorded.Reasons(v.Reasons), Monitored: recorded.Reasons(v.Monitored),
		Unenforced: v.Unenforced, Revision: v.Revision,
	}
	if v.Err != nil {
		j.Fault = v.Err.Error()
	}
	return j
}

func writeReportJSON(c *cobra.Command, s report) error {
	j := ReportJSON{Time: s.at.UTC().Truncate(time.Second), Domains: []domainJSON{}, Gone: append([]marks.Mark{}, s.gone...), Unlisted: s.unlisted, Enforcement: s.enforced, NotAsked: s.notAsked, Husks: s.husks, Ending: s.ending}
	if s.operation != policy.OperationStop {
		j.Operation = s.operation
	}
	for i, subject := range s.subjects {
		d := domainJSON{Name: subject.Name, UUID: subject.UUID, State: subject.State, verdictJSON: jsonOf(s.verdicts[i]), Marks: marksOf(subject, s.at), Ticket: s.tickets[i]}
		operation := s.operationOf(subject)
		if operation != s.operation {
			d.Operation = operation
		}
		if needs := s.approvals.For(subject.Name, subject.UUID, operation); needs != nil {
			d.Approvals = needs.Approvers
		}
		if s.trial {
			then := jsonOf(s.would[i])
			d.Change, d.Candidate = candidate.ChangeOf(s.verdicts[i], s.would[i]), &then
		}
		j.Domains = append(j.Domains, d)
	}
	return terminal.WriteJSON(c.OutOrStdout(), j)
}

// writeMetrics writes the format of node_exporter's textfile collector.
func writeMetrics(c *cobra.Command, s report) error {
	protected := family("stopguard_domain_protected", "Whether a stop of the running domain would be refused, by which rule; 0 without a rule if not.")
	until := family("stopguard_domain_protected_until_seconds", "When that reason lapses by itself, in seconds since 1970; absent if it does not.")
	gone := family("stopguard_marks_gone", "Protection marks that have gone since the last check.")
	unlisted := family("stopguard_listed_gone", "Running domains that the protected list has ceased to match since the last check.")
	faults := family("stopguard_check_faults", "Domains of which could not be decided whether they are protected.")
	enforced := family("stopguard_enforced", "Whether this enforcement point can refuse a stop on this host; absent if that is not known.")
	if s.enforced.Known {
		for _, point := range []string{host.PointGate, host.PointHook} {
			add(enforced, map[bool]float64{true: 1}[slices.Contains(s.enforced.By, point)], "by", point)
		}
	}
	husk := family("stopguard_domain_husk", "Domains that a failed incoming migration has probably left behind.")
	ending := family("stopguard_domain_ends_with_connection", "Protected domains that end when the connection of a client closes, which started them with autodestroy.")
	for _, of := range []struct {
		family  *dto.MetricFamily
		domains []host.Domain
	}{{husk, s.husks}, {ending, s.ending}} {
		for _, domain := range of.domains {
			add(of.family, 1, "domain", terminal.Clean(domain.Name), "uuid", domain.UUID)
		}
	}
	failed := float64(len(s.faults))
	for i, subject := range s.subjects {
		v := s.verdicts[i]
		label := func(rule string) []string {
			return []string{"domain", terminal.Clean(subject.Name), "uuid", subject.UUID, "rule", rule}
		}
		switch {
		case v.Err != nil:
			failed++
			continue
		case len(v.Reasons) == 0:
			add(protected, 0, label("")...)
			continue
		}
		for j := 0; j < len(v.Reasons); {
			// A rule with several reasons refuses a stop until the last one has lapsed.
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
	add(unlisted, float64(len(s.unlisted)))
	add(faults, failed)
	for _, f := range []*dto.MetricFamily{protected, until, gone, unlisted, faults, enforced, husk, ending} {
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
