package call

import (
	"bytes"
	"crypto/rand"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strings"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/internal/protection"
	"github.com/stopguard/stopguard/internal/uuid"
)

// Mark is the namespace of the mark with which a domain protects itself; see the rule
// protection_mark.
const Mark = protection.Namespace

// DefinitionUUID returns the UUID in a domain's XML, in lower case, or "" if there is none: libvirt
// makes a new one then, and never touches a domain that is there, not even one of that name. It is
// an error if we cannot be sure to read it as libvirt does.
func DefinitionUUID(text string) (string, error) {
	if strings.TrimSpace(text) == "" {
		return "", nil // libvirt shall say so
	}
	id, _, err := scanDefinition(text)
	return id, err
}

// WithUUID returns the XML of a domain that is not there yet, with a UUID in it: libvirt makes one
// up if there is none.
func WithUUID(text string) (xml, id string, err error) {
	id, behindRoot, err := scanDefinition(text)
	if err != nil || id != "" {
		return text, id, err
	}
	var random uuid.UUID
	_, _ = rand.Read(random[:]) // it never fails
	random[6], random[8] = random[6]&0x0f|0x40, random[8]&0x3f|0x80
	id = random.String()
	return text[:behindRoot] + "<uuid>" + id + "</uuid>" + text[behindRoot:], id, nil
}

// scanDefinition finds the root's <uuid>, and where the root's start tag ends.
func scanDefinition(text string) (id string, behindRoot int64, err error) {
	fail := func(what string) (string, int64, error) {
		return "", 0, fmt.Errorf("it cannot be told which domain the XML defines: %s; write it as virsh dumpxml prints it", what)
	}
	d := xml.NewDecoder(strings.NewReader(text))
	depth, inUUID, found := 0, false, false
	var content bytes.Buffer
	for {
		token, err := d.RawToken()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fail(err.Error())
		}
		switch t := token.(type) {
		case xml.Directive:
			return fail("it has a document type")
		case xml.ProcInst:
			if t.Target == "xml" && !inUTF8(t.Inst) {
				return fail("its encoding is not UTF-8")
			}
		case xml.StartElement:
			depth++
			switch {
			case depth == 1 && behindRoot > 0:
				return fail("it has two roots")
			case depth == 1:
				behindRoot = d.InputOffset()
				if strings.HasSuffix(text[:behindRoot], "/>") {
					return fail("its root is empty")
				}
			case depth == 2 && t.Name.Local == "uuid":
				if found {
					return fail("it has two UUIDs")
				}
				inUUID, found = true, true
			case inUUID:
				return fail("there is an element in its UUID")
			}
		case xml.EndElement:
			depth--
			if depth < 0 {
				return fail("an element ends that has not begun")
			}
			if inUUID {
				inUUID, id = false, content.String()
			}
		case xml.CharData:
			if inUUID {
				content.Write(t)
			}
		}
	}
	if depth != 0 || behindRoot == 0 {
		return fail("it ends too soon")
	}
	if !found {
		return "", behindRoot, nil
	}
	if id, err = normalUUID(id); err != nil {
		return fail(err.Error())
	}
	return id, behindRoot, nil
}

// inUTF8 reports whether what an XML declaration says leaves no other encoding. package xml sees
// none where blanks are before the equals sign, and would read UTF-7, in which <uuid> is other
// bytes, as a text without one.
func inUTF8(declaration []byte) bool {
	said := bytes.Count(declaration, []byte("encoding"))
	return said == 0 || said == 1 && utf8Said.Match(declaration)
}

var utf8Said = regexp.MustCompile(`encoding\s*=\s*["'](?i:utf-8)["']`)

// normalUUID returns a UUID in libvirt's form. Like libvirt it passes over blanks around it and
// over hyphens anywhere.
func normalUUID(s string) (string, error) {
	u := uuid.Canonical(strings.TrimSpace(s))
	if u == "" {
		return "", fmt.Errorf("%.60q is no UUID", s)
	}
	return u, nil
}

// KeepsMarks reports whether a new definition leaves the marks of the old one as they are; one that
// has none keeps them. If it cannot be told, it does not.
func KeepsMarks(before, after []byte) bool {
	old, ok := marks(before)
	if !ok {
		return false
	}
	if len(old) == 0 {
		return true
	}
	kept, ok := marks(after)
	return ok && reflect.DeepEqual(old, kept)
}

func marks(definition []byte) ([]domainxml.Element, bool) {
	d, err := domainxml.Parse(definition)
	if err != nil || d.MetadataErr != nil {
		return nil, false
	}
	var found []domainxml.Element
	for _, e := range d.Metadata {
		if e.Namespace == Mark {
			found = append(found, e)
		}
	}
	return found, true
}
