package policy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/policy/internal/document"
	"github.com/stopguard/stopguard/policy/internal/jsontree"
	"github.com/stopguard/stopguard/policy/internal/regovalue"
)

// A Document is an input in JSON, in the form of rego/input.schema.json, from a client or from a
// record. It is immutable, but for its fields.
type Document struct {
	// ShuttingDown is set if the host shuts down, which a document does not tell; see [Input]. For
	// a record, set it if the record gives that as the reason why nothing was enforced.
	ShuttingDown bool

	// Holds are the holds on the domain, for a document that does not have them: programs that do
	// not know holds leave them out.
	Holds []Hold

	json *document.Document
}

// ParseDocument reads an input document of version 1. hidden are the JSON pointers of the values
// that a record erased or masked, such as "/input/domain/title"; the values there are ignored.
//
// Other values must have the form of the schema. An unknown field is an error, and so is any other
// version. A missing field is an error of [Engine.DecideDocument] if a rule reads it.
func ParseDocument(content []byte, hidden []string) (*Document, error) {
	return newDocument(document.Parse(content, hidden))
}

// ParseQuestion reads {"input": an input document}, as OPA's Data API is asked, in one pass. The
// document is read as [ParseDocument] does it, with nothing hidden. Fields beside input are passed
// over.
func ParseQuestion(content []byte) (*Document, error) {
	return newDocument(document.ParseQuestion(content))
}

func newDocument(d *document.Document, err error) (*Document, error) {
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	return &Document{json: d}, nil
}

// A Replayed is the result of [Engine.Replay].
type Replayed struct {
	// Decision is the decision of the rules that could be evaluated, without those in Missing.
	Decision Decision

	// Missing are the rules that read input that the document lacks, sorted by name, and then the
	// rules written in Go, which read an [Input] and cannot be evaluated on a document.
	Missing []MissingInput
}

// A MissingInput is the input that a rule reads and that is not there, or is masked.
type MissingInput struct {
	Rule  string   // the rule that reads it; "" where no rule could be asked without it
	Paths []string // as a rule writes them, such as "input.domain.metadata"; sorted, one at least
}

// A MissingInputError is returned if the input lacks a field that a rule reads.
type MissingInputError struct {
	Missing []MissingInput

	cure string // the second half of the text; "" means "give all of it"
}

// Error names the input, and the rules that read it.
func (e *MissingInputError) Error() string {
	var parts []string
	for _, l := range e.Missing {
		part := strings.Join(l.Paths, ", ")
		if l.Rule != "" {
			part += " (rule " + l.Rule + ")"
		}
		parts = append(parts, part)
	}
	return "policy: the input lacks what is read of it: " + strings.Join(parts, "; ") + "; " + cmp.Or(e.cure, "give all of it")
}

// DecideDocument decides as [Engine.Decide] does on the input that the document was made from,
// within the same time. The engine's list is not used: the document has the entries that matched.
// If the document lacks input that a loaded rule reads, DecideDocument returns a
// [*MissingInputError] and the zero Decision.
func (e *Engine) DecideDocument(ctx context.Context, d *Document) (Decision, error) {
	p, err := e.program()
	if err != nil {
		return Decision{}, fmt.Errorf("policy: %w", err)
	}
	missing, err := e.missingIn(p, d)
	if err != nil {
		return Decision{}, err
	}
	missing = append(missing, e.missingByGoRules()...)
	if len(missing) > 0 {
		return Decision{}, &MissingInputError{Missing: missing}
	}
	return decideEach(d.json.Text("operation"), func(name string) (Decision, error) {
		d := d.withOperation(name)
		in := d.input()
		a, err := evaluateBounded(ctx, func(ctx context.Context) (answer, error) { return p.evaluate(ctx, ast.NewTerm(d.value(p.fields, in))) })
		if err != nil {
			return Decision{}, err
		}
		return e.weigh(in, a), nil
	})
}

// Replay decides by the rules whose input the document has. The other rules are left out, and are
// in Missing. Replay is for comparing a policy with a record, not for deciding about a stop: when
// ctx is done, it waits for a built-in function that runs. If the document lacks the domain's name
// or UUID, Replay returns a [*MissingInputError].
func (e *Engine) Replay(ctx context.Context, d *Document) (r Replayed, err error) {
	defer func() {
		if p := recover(); p != nil {
			r, err = Replayed{}, panicked(p)
		}
	}()
	p, err := e.program()
	if err != nil {
		return Replayed{}, fmt.Errorf("policy: %w", err)
	}
	if r.Missing, err = e.missingIn(p, d); err != nil {
		return Replayed{}, err
	}
	r.Missing = append(r.Missing, e.missingByGoRules()...)
	isLacking := func(reason Reason) bool {
		return slices.ContainsFunc(r.Missing, func(l MissingInput) bool { return l.Rule == reason.Rule })
	}
	r.Decision, err = decideEach(d.json.Text("operation"), func(name string) (Decision, error) {
		d := d.withOperation(name)
		in := d.input()
		a, err := p.evaluate(ctx, ast.NewTerm(d.value(p.fields, in)))
		if err != nil {
			return Decision{}, err
		}
		a.reasons, a.notes = slices.DeleteFunc(a.reasons, isLacking), slices.DeleteFunc(a.notes, isLacking)
		return e.weigh(in, a), nil
	})
	if err != nil {
		return Replayed{}, err
	}
	return r, nil
}

// withOperation returns the document with another operation in place of its own.
func (d *Document) withOperation(operation string) *Document {
	other := *d
	other.json = d.json.WithOperation(operation)
	return &other
}

var nameAndUUID = document.Reads{Paths: [][]string{{"domain", "name"}, {"domain", "uuid"}}}

// missingIn returns the input that the rules read and the document lacks. If that is the domain's
// name or UUID, it returns an error.
func (e *Engine) missingIn(p *program, d *Document) ([]MissingInput, error) {
	if paths := d.json.Lacks(nameAndUUID); paths != nil {
		return nil, &MissingInputError{Missing: []MissingInput{{Paths: paths}}}
	}
	var missing []MissingInput
	for _, r := range p.rules {
		paths := d.json.Lacks(r.reads())
		if e.needsNoFleet(r.name) {
			paths = slices.DeleteFunc(paths, func(path string) bool { return path == "input.fleet" })
		}
		if len(paths) > 0 {
			missing = append(missing, MissingInput{r.name, paths})
		}
	}
	return missing, nil
}

// missingByGoRules returns the whole input for each rule written in Go: such a rule reads an
// [Input], which a document is not.
func (e *Engine) missingByGoRules() []MissingInput {
	var missing []MissingInput
	for _, name := range e.GoRules() {
		missing = append(missing, MissingInput{Rule: name, Paths: []string{"input"}})
	}
	return missing
}

// Domain returns the name and the UUID of the domain that the document is about; "" where it lacks
// them.
func (d *Document) Domain() (name, uuid string) {
	return d.json.Text("domain", "name"), d.json.Text("domain", "uuid")
}

// value returns the value that rules see as input. in is the result of [Document.input].
func (d *Document) value(fields *document.Tree, in Input) ast.Value {
	return d.json.Build(fields, func() *ast.Term { return marksTerm(in.Domain, in.Time) },
		func() *ast.Term { return regovalue.Array(d.Holds, holdTerm) })
}

// input returns the part of the document that is needed to parse the domain's marks, and to weigh
// the reasons of the rules.
func (d *Document) input() Input {
	domain := &domainxml.Domain{
		Name:     d.json.Text("domain", "name"),
		UUID:     d.json.Text("domain", "uuid"),
		Metadata: elementsOf(d.json.List("domain", "metadata")),
	}
	if unreadable := d.json.Text("domain", "metadata_error"); unreadable != "" {
		domain.MetadataErr = errors.New(unreadable)
	}
	now, _ := time.Parse(time.RFC3339, d.json.Text("time")) // checked; or the document lacks it
	return Input{Operation: d.json.Text("operation"), Time: now, Domain: domain, ShuttingDown: d.ShuttingDown}
}

func elementsOf(nodes []jsontree.Node) []domainxml.Element {
	var elements []domainxml.Element
	for i := range nodes {
		n := &nodes[i]
		e := domainxml.Element{
			Name:       n.TextAt("name"),
			Namespace:  n.TextAt("namespace"),
			Attributes: map[string]string{},
			Children:   elementsOf(n.List("children")),
		}
		if attributes := n.At("attributes"); attributes != nil {
			for _, a := range attributes.Members {
				e.Attributes[a.Name] = a.Text
			}
		}
		elements = append(elements, e)
	}
	return elements
}

// readsOfRule returns the paths of the input that the clauses of a rule, and all that they call,
// can read.
func (p *program) readsOfRule(clauses []*ast.Rule) document.Reads {
	var reads document.Reads
	for _, path := range p.paths(clauses) {
		if path[0] != "input" {
			continue
		}
		reads.Paths = append(reads.Paths, path[1:])
	}
	return reads.WithSources()
}
