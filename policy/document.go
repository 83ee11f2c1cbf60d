package policy

import (
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/internal/problem"
	"github.com/stopguard/stopguard/internal/protection"
	"github.com/stopguard/stopguard/policy/internal/document"
	"github.com/stopguard/stopguard/policy/internal/regovalue"
)

// InputVersion is the version of the input that rules read: rego/input.schema.json describes it.
const InputVersion = 1

// inputValue returns the value that rules see as input: an object with each of the given fields,
// none of which is null.
func inputValue(in Input, listed []string, fields *document.Tree) (ast.Value, error) {
	o := object{at: fields}
	if o.reads("version") {
		o.put(ast.InternedTerm(InputVersion))
	}
	o.text("operation", in.Operation)
	if o.reads("time") {
		o.put(ast.StringTerm(in.clock().UTC().Format(time.RFC3339)))
	}
	if o.reads("host") {
		o.put(hostTerm(o.field, in.Host))
	}
	if o.reads("fleet") {
		o.put(fleetTerm(o.field, in.Fleet))
	}
	if o.reads("request") {
		o.put(requestTerm(o.field, in.Request))
	}
	if o.reads("caller") {
		o.put(callerTerm(o.field, in.Caller))
	}
	if o.reads("domain") {
		o.put(domainTerm(o.field, in, listed, fields.Shallow))
	}
	if o.reads("xml") {
		tree, err := in.Domain.Tree()
		if err != nil {
			return nil, err
		}
		o.put(elementTerm(tree))
	}
	return o.term().Value, nil
}

// An object collects the fields of an object of the input that rules can read.
type object struct {
	at    *document.Tree
	field *document.Tree // the field of the last call of reads; nil if it is not read
	pairs [][2]*ast.Term
}

// reads reports whether the field can be read. The next put sets its value.
func (o *object) reads(name string) bool {
	o.field = o.at.Below(name)
	return o.field != nil
}

func (o *object) put(value *ast.Term) {
	o.pairs = append(o.pairs, [2]*ast.Term{o.field.Name, value})
}

func (o *object) text(name, value string) {
	if o.reads(name) {
		o.put(regovalue.Text(value))
	}
}

func (o *object) number(name string, value int) {
	if o.reads(name) {
		o.put(ast.IntNumberTerm(value))
	}
}

func (o *object) flag(name string, value bool) {
	if o.reads(name) {
		o.put(ast.InternedTerm(value))
	}
}

func (o *object) texts(name string, values []string) {
	if o.reads(name) {
		o.put(regovalue.Array(values, ast.StringTerm))
	}
}

func (o *object) term() *ast.Term { return ast.ObjectTerm(o.pairs...) }

func hostTerm(fields *document.Tree, h Host) *ast.Term {
	o := object{at: fields}
	o.text("name", h.Name)
	if o.reads("domains") {
		o.put(h.domainsTerm())
	}
	return o.term()
}

func domainTerm(fields *document.Tree, in Input, listed []string, shallow bool) *ast.Term {
	d := in.Domain
	o := object{at: fields, pairs: make([][2]*ast.Term, 0, 16)}
	o.text("name", d.Name)
	o.text("uuid", d.UUID)
	o.number("id", d.ID)
	o.text("type", d.Type)
	o.text("title", d.Title)
	o.text("description", d.Description)
	if o.reads("memory_bytes") {
		o.put(ast.UIntNumberTerm(d.MemoryBytes))
	}
	o.number("vcpus", d.VCPUs)
	o.text("arch", d.Arch)
	o.text("machine", d.Machine)
	o.text("state", in.State.State)
	o.text("reason", in.State.Reason)
	o.text("job", in.State.Job)
	if o.reads("disks") {
		o.put(regovalue.Array(d.Disks, func(disk domainxml.Disk) *ast.Term { return diskTerm(disk, in.State.DiskJobs) }))
	}
	if o.reads("interfaces") {
		o.put(regovalue.Array(d.Interfaces, interfaceTerm))
	}
	if o.reads("hostdevs") {
		o.put(regovalue.Array(d.Hostdevs, hostdevTerm))
	}
	o.texts("listed", listed)
	if o.reads("holds") {
		o.put(regovalue.Array(in.Holds, holdTerm))
	}
	if o.reads("marks") {
		o.put(marksTerm(d, in.clock()))
	}
	if o.reads("metadata") {
		o.put(regovalue.Array(d.Metadata, func(e domainxml.Element) *ast.Term {
			if shallow {
				e.Children = nil
			}
			return elementTerm(e)
		}))
	}
	if o.reads("metadata_error") {
		var unreadable string
		if d.MetadataErr != nil {
			unreadable = problem.OneLine(d.MetadataErr.Error())
		}
		o.put(regovalue.Text(unreadable))
	}
	return o.term()
}

// The functions below build the items of arrays. The reads of an item's fields cannot be told from
// the paths that rules mention, so these objects have all their fields.

func hostDomainTerm(d HostDomain) *ast.Term {
	return ast.ObjectTerm(
		regovalue.Pair("name", regovalue.Text(d.Name)),
		regovalue.Pair("uuid", regovalue.Text(d.UUID)),
		regovalue.Pair("state", regovalue.Text(d.State)),
		regovalue.Pair("metadata", regovalue.Array(d.Metadata, elementTerm)),
		regovalue.Pair("stopping", ast.InternedTerm(d.Stopping)),
	)
}

func diskTerm(d domainxml.Disk, jobs map[string]string) *ast.Term {
	job := jobs[d.Target]
	if d.Mirrored && job == "" {
		job = d.MirrorJob
	}
	return ast.ObjectTerm(
		regovalue.Pair("device", regovalue.Text(d.Device)),
		regovalue.Pair("type", regovalue.Text(d.Type)),
		regovalue.Pair("source", regovalue.Text(d.Source)),
		regovalue.Pair("target", regovalue.Text(d.Target)),
		regovalue.Pair("bus", regovalue.Text(d.Bus)),
		regovalue.Pair("read_only", ast.InternedTerm(d.ReadOnly)),
		regovalue.Pair("shareable", ast.InternedTerm(d.Shareable)),
		regovalue.Pair("serial", regovalue.Text(d.Serial)),
		regovalue.Pair("job", regovalue.Text(job)),
	)
}

func holdTerm(h Hold) *ast.Term {
	until := ""
	if !h.Until.IsZero() { // a reason must not end before the hold does
		until = h.Until.Add(time.Second - 1).UTC().Format(time.RFC3339)
	}
	return ast.ObjectTerm(
		regovalue.Pair("holder", regovalue.Text(h.Holder)),
		regovalue.Pair("pid", ast.IntNumberTerm(h.PID)),
		regovalue.Pair("reason", regovalue.Text(h.Reason)),
		regovalue.Pair("since", regovalue.Text(h.Since.UTC().Format(time.RFC3339))),
		regovalue.Pair("until", regovalue.Text(until)),
		regovalue.Pair("operations", regovalue.Array(h.Operations, ast.StringTerm)),
	)
}

func interfaceTerm(i domainxml.Interface) *ast.Term {
	return ast.ObjectTerm(
		regovalue.Pair("type", regovalue.Text(i.Type)),
		regovalue.Pair("mac", regovalue.Text(i.MAC)),
		regovalue.Pair("source", regovalue.Text(i.Source)),
		regovalue.Pair("target", regovalue.Text(i.Target)),
		regovalue.Pair("model", regovalue.Text(i.Model)),
	)
}

func hostdevTerm(h domainxml.Hostdev) *ast.Term {
	return ast.ObjectTerm(
		regovalue.Pair("type", regovalue.Text(h.Type)),
		regovalue.Pair("mode", regovalue.Text(h.Mode)),
		regovalue.Pair("source", regovalue.Text(h.Source)),
	)
}

func marksTerm(d *domainxml.Domain, now time.Time) *ast.Term {
	return regovalue.Array(protection.Marks(d, now), func(m protection.Mark) *ast.Term {
		return ast.ObjectTerm(
			regovalue.Pair("reason", regovalue.Text(m.Reason)),
			regovalue.Pair("owner", regovalue.Text(m.Owner)),
			regovalue.Pair("until", regovalue.Text(m.Until)),
			regovalue.Pair("shown", regovalue.Text(m.Shown)),
			regovalue.Pair("operations", regovalue.Array(m.Operations, ast.StringTerm)),
			regovalue.Pair("named", regovalue.Array(m.Named, ast.StringTerm)),
			regovalue.Pair("in_force", ast.InternedTerm(m.InForce)),
			regovalue.Pair("note", regovalue.Text(m.Note)),
			regovalue.Pair("unreadable", textsTerm(m.Unreadable)),
		)
	})
}

func elementTerm(e domainxml.Element) *ast.Term {
	return ast.ObjectTerm(
		regovalue.Pair("name", regovalue.Text(e.Name)),
		regovalue.Pair("namespace", regovalue.Text(e.Namespace)),
		regovalue.Pair("attributes", textsTerm(e.Attributes)),
		regovalue.Pair("text", regovalue.Text(e.Text)),
		regovalue.Pair("children", regovalue.Array(e.Children, elementTerm)),
	)
}

func textsTerm(texts map[string]string) *ast.Term {
	if len(texts) == 0 {
		return ast.InternedEmptyObject
	}
	pairs := make([][2]*ast.Term, 0, len(texts))
	for name, value := range texts {
		pairs = append(pairs, regovalue.Pair(name, regovalue.Text(value)))
	}
	return ast.ObjectTerm(pairs...)
}
