package domainxml

import (
	"cmp"
	"encoding/xml"
	"errors"
	"io"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"github.com/stopguard/stopguard/internal/uuid"
)

// once lists the children of <domain> that may occur only once. The first four hold text, the last
// three are the owner's.
var once = [...]string{"name", "uuid", "memory", "vcpu", "os", "devices", "title", "description", "metadata"}

// pass reads a document without the owner's parts into a Domain, in one pass.
type pass struct {
	*reader
	d       *Domain
	seen    [len(once)]bool
	child   string // the enclosing child of <domain>, if it is one of once
	began   int    // the offset at which that child begins
	content []byte // the text of that child
	unit    string // of <memory>
	typed   bool   // <os> had its <type>
}

func (d *Domain) readHost() error {
	p := &pass{reader: newReader(d.doc.text, d.doc.host()...), d: d}
	for {
		k, err := p.next()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = p.token(k)
		}
		if err != nil {
			return err
		}
	}
	for i, required := range []string{d.Name, d.UUID} {
		if required == "" {
			return fault(d.doc.text, d.doc.rootTag.start, "/domain", "no <%s>; a domain has one", once[i])
		}
	}
	return nil
}

// token handles the reader's last token.
func (p *pass) token(k kind) error {
	switch k {
	case startElement:
		return p.enter()
	case endElement:
		return p.leave()
	case charData:
		if p.depth() == 2 && holdsText(p.child) {
			p.content = append(p.content, p.text...)
		}
	}
	return nil
}

func holdsText(name string) bool { return name != "" && slices.Contains(once[:4], name) }

func (p *pass) enter() error {
	switch p.depth() {
	case 1:
		return p.root()
	case 2:
		return p.enterChild()
	case 3:
		switch {
		case holdsText(p.child):
			return p.fault(p.at, "an element where only text may be")
		case p.child == "devices":
			return p.device()
		case p.child == "os" && p.is("type"):
			if p.typed {
				return p.fault(p.at, "a second <type>; <os> has one")
			}
			p.typed = true
			p.d.Arch, p.d.Machine = p.value("arch"), p.value("machine")
		}
	}
	return nil
}

func (p *pass) root() error {
	if !p.is("domain") {
		return p.fault(p.at, "the root element is <%s> in namespace %.60q; expected <domain> in none", p.name.Local, p.name.Space)
	}
	p.d.Type = p.value("type")
	for _, a := range p.attr {
		if a.Name == (xml.Name{Local: "id"}) {
			var err error
			if p.d.ID, err = number(a.Value); err != nil {
				return p.fault(p.at, "id %.60q %s", a.Value, err)
			}
		}
	}
	return nil
}

func (p *pass) enterChild() error {
	p.child, p.began, p.content = "", p.at, p.content[:0]
	if p.name.Space != "" {
		return nil
	}
	i := slices.Index(once[:], p.name.Local)
	if i < 0 {
		return nil
	}
	if p.seen[i] {
		return p.fault(p.at, "a second <%s>; a domain has one", once[i])
	}
	p.seen[i], p.child = true, once[i]
	if p.child == "memory" {
		p.unit = p.value("unit")
	}
	return nil
}

func (p *pass) leave() error {
	if p.depth() != 1 {
		return nil
	}
	err := p.store(string(p.content))
	p.child = ""
	return err
}

// store stores the text of a child in the Domain.
func (p *pass) store(text string) error {
	bad := func(format string, args ...any) error {
		return fault(p.doc, p.began, "/domain/"+p.child, format, args...)
	}
	switch p.child {
	case "name":
		if p.d.Name = text; text == "" {
			return bad("an empty name")
		}
	case "uuid":
		p.d.UUID = strings.ToLower(strings.Trim(text, blanks))
		if !uuid.IsCanonical(p.d.UUID) {
			return bad("%.60q is no UUID; expected 8-4-4-4-12 hexadecimal digits", text)
		}
	case "vcpu":
		var err error
		if p.d.VCPUs, err = number(text); err != nil {
			return bad("%.60q %s", text, err)
		}
	case "memory":
		n, err := strconv.ParseUint(strings.Trim(text, blanks), 10, 64)
		if err != nil {
			return bad("%.60q is not a number from 0 to 2^64-1", text)
		}
		unit, ok := unitBytes(p.unit)
		if !ok {
			return bad("unit %.60q is unknown; expected b, bytes, or one of K, M, G, T, P, E, alone or with B or iB", p.unit)
		}
		over, bytes := bits.Mul64(n, unit)
		if over > 0 {
			return bad("%d %s is more than 2^64-1 bytes", n, cmp.Or(p.unit, "KiB"))
		}
		p.d.MemoryBytes = bytes
	}
	return nil
}

// is reports whether the last tag was libvirt's own element of that name.
func (p *pass) is(name string) bool { return p.name == xml.Name{Local: name} }

// value returns an attribute of the last start tag; "" if it is absent.
func (p *pass) value(name string) string {
	for _, a := range p.attr {
		if a.Name == (xml.Name{Local: name}) {
			return a.Value
		}
	}
	return ""
}

var errNumber = errors.New("is not a number from 0 to 2147483647")

// number parses an attribute or text that libvirt parses as an int or an unsigned int.
func number(s string) (int, error) {
	n, err := strconv.ParseUint(strings.Trim(s, blanks), 10, 31)
	if err != nil {
		return 0, errNumber
	}
	return int(n), nil
}

// unitBytes returns the bytes in a unit of memory, by the rules of libvirt's virScaleInteger: case
// does not matter, K and KiB are 1024, KB is 1000, and "" is KiB.
func unitBytes(unit string) (uint64, bool) {
	unit = strings.ToLower(unit)
	switch unit {
	case "":
		return 1 << 10, true
	case "b", "byte", "bytes":
		return 1, true
	}
	base := uint64(1024)
	switch unit[1:] {
	case "", "ib":
	case "b":
		base = 1000
	default:
		return 0, false
	}
	power := strings.IndexByte("kmgtpe", unit[0])
	if power < 0 {
		return 0, false
	}
	n := base
	for range power {
		n *= base
	}
	return n, true
}
