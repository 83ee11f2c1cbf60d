package policy

import (
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"libvirt.org/go/libvirtxml"

	"github.com/stopguard/stopguard/domainxml"
)

// document makes the value that rules see as input: those fields that reads can reach, each always there, never null.
func document(in Input, listed []string, reads reach) (ast.Value, error) {
	b := builder{reads: reads}
	doc := b.object(nil,
		field{"version", func(place) *ast.Term { return ast.IntNumberTerm(1) }},
		field{"operation", text(in.Operation)},
		field{"time", text(in.Time.UTC().Format(time.RFC3339))},
		field{"host", func(p place) *ast.Term { return b.host(p, in.Host) }},
		field{"request", func(p place) *ast.Term { return b.request(p, in.Request) }},
		field{"caller", func(p place) *ast.Term { return b.caller(p, in.Caller) }},
		field{"domain", func(p place) *ast.Term { return b.domain(p, in, listed) }},
		field{"xml", func(place) *ast.Term {
			tree, err := in.Domain.Tree()
			b.fail(err)
			return element(tree)
		}},
	)
	return doc.Value, b.err
}

type place []string

// A field is a name and what makes its value; make is called only if the field is reached.
type field struct {
	name string
	make func(place) *ast.Term
}

// A builder makes objects of the fields that rules can reach. The first error sticks.
type builder struct {
	reads reach
	err   error
}

func (b *builder) fail(err error) {
	if b.err == nil {
		b.err = err
	}
}

func (b *builder) object(at place, fields ...field) *ast.Term {
	pairs := make([][2]*ast.Term, 0, len(fields))
	for _, f := range fields {
		p := append(at[:len(at):len(at)], f.name)
		if b.reads.has(p...) {
			pairs = append(pairs, [2]*ast.Term{ast.InternedTerm(f.name), f.make(p)})
		}
	}
	return ast.ObjectTerm(pairs...)
}

func (b *builder) host(at place, h Host) *ast.Term {
	return b.object(at,
		field{"name", text(h.Name)},
		field{"domains", func(place) *ast.Term {
			return array(h.Domains, func(d HostDomain) *ast.Term {
				return record(
					field{"name", text(d.Name)},
					field{"uuid", text(d.UUID)},
					field{"state", text(d.State)},
					field{"metadata", elements(d.Metadata)},
					field{"stopping", flag(d.Stopping)},
				)
			})
		}},
	)
}

func (b *builder) domain(at place, in Input, listed []string) *ast.Term {
	d := in.Domain
	var unreadable string
	if d.MetadataErr != nil {
		unreadable = oneLine(d.MetadataErr.Error())
	}
	return b.object(at,
		field{"name", text(d.Name)},
		field{"uuid", text(d.UUID)},
		field{"id", number(d.ID)},
		field{"type", text(d.Type)},
		field{"title", text(d.Title)},
		field{"description", text(d.Description)},
		field{"memory_bytes", func(place) *ast.Term { return ast.UIntNumberTerm(d.MemoryBytes) }},
		field{"vcpus", number(d.VCPUs)},
		field{"arch", text(d.Arch)},
		field{"machine", text(d.Machine)},
		field{"state", text(in.State.State)},
		field{"reason", text(in.State.Reason)},
		field{"job", text(in.State.Job)},
		field{"disks", func(place) *ast.Term {
			disks, err := d.Disks()
			b.fail(err)
			return array(disks, func(disk libvirtxml.DomainDisk) *ast.Term { return diskTerm(disk, in.State.DiskJobs) })
		}},
		field{"interfaces", func(place) *ast.Term {
			interfaces, err := d.Interfaces()
			b.fail(err)
			return array(interfaces, interfaceTerm)
		}},
		field{"hostdevs", func(place) *ast.Term {
			hostdevs, err := d.Hostdevs()
			b.fail(err)
			return array(hostdevs, hostdevTerm)
		}},
		field{"listed", func(place) *ast.Term { return array(listed, ast.StringTerm) }},
		field{"metadata", elements(d.Metadata)},
		field{"metadata_error", text(unreadable)},
	)
}

// record makes an object of all its fields: below an array, what is read cannot be told apart by position.
func record(fields ...field) *ast.Term {
	b := builder{reads: everything}
	return b.object(nil, fields...)
}

func text(s string) func(place) *ast.Term {
	return func(place) *ast.Term { return ast.StringTerm(s) }
}

func number(n int) func(place) *ast.Term {
	return func(place) *ast.Term { return ast.IntNumberTerm(n) }
}

func flag(b bool) func(place) *ast.Term {
	return func(place) *ast.Term { return ast.InternedTerm(b) }
}

func elements(list []domainxml.Element) func(place) *ast.Term {
	return func(place) *ast.Term { return array(list, element) }
}

func array[T any](list []T, make func(T) *ast.Term) *ast.Term {
	terms := []*ast.Term{} // an empty list is a list, not null
	for _, item := range list {
		terms = append(terms, make(item))
	}
	return ast.ArrayTerm(terms...)
}

func element(e domainxml.Element) *ast.Term {
	attributes := make([][2]*ast.Term, 0, len(e.Attributes))
	for name, value := range e.Attributes {
		attributes = append(attributes, [2]*ast.Term{ast.StringTerm(name), ast.StringTerm(value)})
	}
	return record(
		field{"name", text(e.Name)},
		field{"namespace", text(e.Namespace)},
		field{"attributes", func(place) *ast.Term { return ast.ObjectTerm(attributes...) }},
		field{"text", text(e.Text)},
		field{"children", elements(e.Children)},
	)
}
