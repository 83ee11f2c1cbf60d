package policy

import (
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/internal/operation"
	"github.com/stopguard/stopguard/internal/protection"
)

// document returns the value that rules see as input: the given fields, each always there, never
// null.
func document(in Input, listed []string, fields *pathTree) (ast.Value, error) {
	o := object{at: fields}
	if o.reads("version") {
		o.put(ast.InternedTerm(1))
	}
	o.text("operation", operation.Canonical(in.Operation))
	if o.reads("time") {
		o.put(ast.StringTerm(in.Time.UTC().Format(time.RFC3339)))
	}
	if o.reads("host") {
		o.put(hostTerm(o.field, in.Host))
	}
	if o.reads("request") {
		o.put(requestTerm(o.field, in.Request))
	}
	if o.reads("caller") {
		o.put(callerTerm(o.field, in.Caller))
	}
	if o.reads("domain") {
		o.put(domainTerm(o.field, in, listed, fields.shallow))
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

// An object is made of those fields that rules can read.
type object struct {
	at    *pathTree
	field *pathTree // the last field that was found to be read
	pairs [][2]*ast.Term
}

// reads reports whether the field can be read. The next put sets its value.
func (o *object) reads(name string) bool {
	o.field = o.at.below(name)
	return o.field != nil
}

func (o *object) put(value *ast.Term) {
	o.pairs = append(o.pairs, [2]*ast.Term{o.field.name, value})
}

func (o *object) text(name, value string) {
	if o.reads(name) {
		o.put(textTerm(value))
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
		o.put(array(values, ast.StringTerm))
	}
}

func (o *object) term() *ast.Term { return ast.ObjectTerm(o.pairs...) }

func hostTerm(fields *pathTree, h Host) *ast.Term {
	o := object{at: fields}
	o.text("name", h.Name)
	if o.reads("domains") {
		o.put(h.domainsTerm())
	}
	return o.term()
}

func domainTerm(fields *pathTree, in Input, listed []string, shallow bool) *ast.Term {
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
		o.put(array(d.Disks, func(disk domainxml.Disk) *ast.Term { return diskTerm(disk, in.State.DiskJobs) }))
	}
	if o.reads("interfaces") {
		o.put(array(d.Interfaces, interfaceTerm))
	}
	if o.reads("hostdevs") {
		o.put(array(d.Hostdevs, hostdevTerm))
	}
	o.texts("listed", listed)
	if o.reads("marks") {
		o.put(marksTerm(d, in.Time))
	}
	if o.reads("metadata") {
		o.put(array(d.Metadata, func(e domainxml.Element) *ast.Term {
			if shallow {
				e.Children = nil
			}
			return elementTerm(e)
		}))
	}
	if o.reads("metadata_error") {
		var unreadable string
		if d.MetadataErr != nil {
			unreadable = oneLine(d.MetadataErr.Error())
		}
		o.put(textTerm(unreadable))
	}
	return o.term()
}

// What follows is below an array, where what is read cannot be told apart by position: these
// objects have all their fields.

func hostDomainTerm(d HostDomain) *ast.Term {
	return ast.ObjectTerm(
		pair("name", textTerm(d.Name)),
		pair("uuid", textTerm(d.UUID)),
		pair("state", textTerm(d.State)),
		pair("metadata", array(d.Metadata, elementTerm)),
		pair("stopping", ast.InternedTerm(d.Stopping)),
	)
}

func diskTerm(d domainxml.Disk, jobs map[string]string) *ast.Term {
	job := jobs[d.Target]
	if d.Mirrored && job == "" {
		job = d.MirrorJob
	}
	return ast.ObjectTerm(
		pair("device", textTerm(d.Device)),
		pair("type", textTerm(d.Type)),
		pair("source", textTerm(d.Source)),
		pair("target", textTerm(d.Target)),
		pair("bus", textTerm(d.Bus)),
		pair("read_only", ast.InternedTerm(d.ReadOnly)),
		pair("shareable", ast.InternedTerm(d.Shareable)),
		pair("serial", textTerm(d.Serial)),
		pair("job", textTerm(job)),
	)
}

func interfaceTerm(i domainxml.Interface) *ast.Term {
	return ast.ObjectTerm(
		pair("type", textTerm(i.Type)),
		pair("mac", textTerm(i.MAC)),
		pair("source", textTerm(i.Source)),
		pair("target", textTerm(i.Target)),
		pair("model", textTerm(i.Model)),
	)
}

func hostdevTerm(h domainxml.Hostdev) *ast.Term {
	return ast.ObjectTerm(
		pair("type", textTerm(h.Type)),
		pair("mode", textTerm(h.Mode)),
		pair("source", textTerm(h.Source)),
	)
}

func marksTerm(d *domainxml.Domain, now time.Time) *ast.Term {
	return array(protection.Marks(d, now), func(m protection.Mark) *ast.Term {
		return ast.ObjectTerm(
			pair("reason", textTerm(m.Reason)),
			pair("owner", textTerm(m.Owner)),
			pair("until", textTerm(m.Until)),
			pair("shown", textTerm(m.Shown)),
			pair("operations", array(m.Operations, ast.StringTerm)),
			pair("in_force", ast.InternedTerm(m.InForce)),
			pair("note", textTerm(m.Note)),
			pair("unreadable", textsTerm(m.Unreadable)),
		)
	})
}

func elementTerm(e domainxml.Element) *ast.Term {
	return ast.ObjectTerm(
		pair("name", textTerm(e.Name)),
		pair("namespace", textTerm(e.Namespace)),
		pair("attributes", textsTerm(e.Attributes)),
		pair("text", textTerm(e.Text)),
		pair("children", array(e.Children, elementTerm)),
	)
}

func textsTerm(texts map[string]string) *ast.Term {
	if len(texts) == 0 {
		return ast.InternedEmptyObject
	}
	pairs := make([][2]*ast.Term, 0, len(texts))
	for name, value := range texts {
		pairs = append(pairs, pair(name, textTerm(value)))
	}
	return ast.ObjectTerm(pairs...)
}

func array[T any](list []T, make func(T) *ast.Term) *ast.Term {
	if len(list) == 0 {
		return ast.InternedEmptyArray // an empty list is a list, not null
	}
	terms := slices.Grow([]*ast.Term(nil), len(list))
	for _, item := range list {
		terms = append(terms, make(item))
	}
	return ast.ArrayTerm(terms...)
}

func textTerm(s string) *ast.Term {
	if s == "" {
		return ast.InternedEmptyString
	}
	return ast.StringTerm(s)
}

func pair(name string, value *ast.Term) [2]*ast.Term {
	key, known := names[name]
	if !known {
		key = ast.StringTerm(name)
	}
	return [2]*ast.Term{key, value}
}

// names are the keys that objects have, made once.
var names = func() map[string]*ast.Term {
	m := map[string]*ast.Term{}
	for _, name := range strings.Fields(`
		version operation time host request caller domain xml domains procedure flags command destination uid login_uid user gid
		groups pid read_only via name uuid id type title description memory_bytes vcpus arch machine state reason job disks interfaces
		hostdevs listed marks metadata metadata_error stopping device source target bus shareable serial mac model mode
		namespace attributes text children owner until shown operations in_force note unreadable is_empty is_open opens`) {
		m[name] = ast.StringTerm(name)
	}
	return m
}()
