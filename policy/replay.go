package policy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stopguard/stopguard/domainxml"
)

// A Replayed is what an engine decides from a [Document].
type Replayed struct {
	// Decision is that of the rules that could be asked. Those in Lacks are not among them: what they would say is not known.
	Decision Decision

	// Lacks are the rules that read what the document lacks, sorted by name.
	Lacks []Lack
}

// A Lack is what a rule reads and a document does not hold, or holds masked.
type Lack struct {
	Rule  string   // the rule that reads it; "" where no rule could be asked without it
	Paths []string // as a rule writes them, such as "input.domain.metadata"; sorted, one at least
}

// A LackError says that a document lacks what must be known for a decision.
type LackError struct{ Lacks []Lack }

// Error names what is lacking, and by which rule it is read.
func (e *LackError) Error() string {
	var parts []string
	for _, l := range e.Lacks {
		part := strings.Join(l.Paths, ", ")
		if l.Rule != "" {
			part += " (rule " + l.Rule + ")"
		}
		parts = append(parts, part)
	}
	return "policy: the input lacks what is read of it: " + strings.Join(parts, "; ") + "; give all of it"
}

// DecideDocument decides as [Engine.Decide] does on the input that the document was made from, within the same time. The
// engine's list is not asked: the document says what was listed. What a loaded rule reads and the document lacks is a
// [*LackError], which comes with the zero Decision.
func (e *Engine) DecideDocument(ctx context.Context, d *Document) (Decision, error) {
	e, err := e.whole()
	if err != nil {
		return Decision{}, fmt.Errorf("policy: %w", err)
	}
	lacks, err := e.lacksOf(d)
	if err != nil {
		return Decision{}, err
	}
	if len(lacks) > 0 {
		return Decision{}, &LackError{lacks}
	}
	in := d.input()
	a, err := within(ctx, func(ctx context.Context) (answer, error) { return e.askAbout(ctx, d, in) })
	if err != nil {
		return Decision{}, err
	}
	return e.weigh(in, a), nil
}

// Replay decides from a document as far as it goes: a rule that reads what the document lacks is left out and named. It is
// for finding out what a policy would have made of a record, not for deciding about a stop: when ctx is done, a built-in
// function that runs is waited for. Without the domain's name and UUID nothing can be decided, which is a [*LackError].
func (e *Engine) Replay(ctx context.Context, d *Document) (r Replayed, err error) {
	defer func() {
		if p := recover(); p != nil {
			r, err = Replayed{}, panicked(p)
		}
	}()
	if e, err = e.whole(); err != nil {
		return Replayed{}, fmt.Errorf("policy: %w", err)
	}
	if r.Lacks, err = e.lacksOf(d); err != nil {
		return Replayed{}, err
	}
	in := d.input()
	a, err := e.askAbout(ctx, d, in)
	if err != nil {
		return Replayed{}, err
	}
	isLacking := func(reason Reason) bool {
		return slices.ContainsFunc(r.Lacks, func(l Lack) bool { return l.Rule == reason.Rule })
	}
	a.reasons, a.notes = slices.DeleteFunc(a.reasons, isLacking), slices.DeleteFunc(a.notes, isLacking)
	r.Decision = e.weigh(in, a)
	return r, nil
}

// askAbout is ask about a document. Of a part that it lacks, a rule that is always on may be taken to have nothing to say;
// but who reads that part is not heeded, or is an error, anyway.
func (e *Engine) askAbout(ctx context.Context, d *Document, in Input) (answer, error) {
	return e.ask(ctx, ast.NewTerm(d.build(e.places(), in)), quietAbout(in.Domain, d.listed()))
}

var named = reach{paths: [][]string{{"domain", "name"}, {"domain", "uuid"}}}

// lacksOf gives what the rules read in vain. Without the domain's name and UUID it is an error.
func (e *Engine) lacksOf(d *Document) ([]Lack, error) {
	if lack := d.lacks("", named); lack != nil {
		return nil, &LackError{[]Lack{*lack}}
	}
	var lacks []Lack
	for i, reads := range e.ruleReads() {
		if lack := d.lacks(e.rules[i], reads); lack != nil {
			lacks = append(lacks, *lack)
		}
	}
	return lacks, nil
}

// Domain gives the name and the UUID of the domain that the document is about; "" where it lacks them.
func (d *Document) Domain() (name, uuid string) {
	return d.text("domain", "name"), d.text("domain", "uuid")
}

// input is as much of the document as it takes to read the domain's marks, and to weigh what the rules say.
func (d *Document) input() Input {
	domain := &domainxml.Domain{
		Name:     d.text("domain", "name"),
		UUID:     d.text("domain", "uuid"),
		Metadata: elementsOf(d.root.list("domain", "metadata")),
	}
	if unreadable := d.text("domain", "metadata_error"); unreadable != "" {
		domain.MetadataErr = errors.New(unreadable)
	}
	now, _ := time.Parse(time.RFC3339, d.text("time")) // checked; or the document lacks it
	return Input{Time: now, Domain: domain, ShuttingDown: d.ShuttingDown}
}

func elementsOf(nodes []node) []domainxml.Element {
	var elements []domainxml.Element
	for i := range nodes {
		n := &nodes[i]
		e := domainxml.Element{
			Name:       n.textAt("name"),
			Namespace:  n.textAt("namespace"),
			Attributes: map[string]string{},
			Children:   elementsOf(n.list("children")),
		}
		if attributes := n.at("attributes"); attributes != nil {
			for _, a := range attributes.below {
				e.Attributes[a.name] = a.text
			}
		}
		elements = append(elements, e)
	}
	return elements
}

func (n *node) textAt(name string) string {
	if at := n.at(name); at != nil && at.kind == stringKind {
		return at.text
	}
	return ""
}

func (d *Document) listed() (listed []string) {
	for _, item := range d.root.list("domain", "listed") {
		listed = append(listed, item.text)
	}
	return listed
}

// readsOfRules gives for each rule, in the order of e.rules, what it and all that it calls can read of the input.
func (e *Engine) readsOfRules() []reach {
	all := make([]reach, len(e.rules))
	for i, name := range e.rules {
		ref := ast.Ref{ast.DefaultRootDocument, ast.StringTerm("stopguard"), ast.StringTerm("rules"), ast.StringTerm(name)}
		var clauses []*ast.Rule
		for _, set := range []string{"veto", "note"} {
			clauses = append(clauses, e.compiler.GetRulesExact(ref.Append(ast.StringTerm(set)))...)
		}
		for _, path := range e.paths(clauses) {
			if path[0] == "input" {
				all[i].paths = append(all[i].paths, path[1:])
			}
			if slices.Equal(path[1:min(len(path), 3)], derivedField) {
				all[i].paths = append(all[i].paths, derivedFrom...)
			}
		}
	}
	return all
}
