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

// DefinitionUUID returns the UUID in a domain's XML, in lower case, or "" if the XML does not have
// one. libvirt then makes a new UUID, and does not touch an existing domain, not even one of that
// name. It returns an error unless the XML can only be read in one way.
func DefinitionUUID(text string) (string, error) {
	if strings.TrimSpace(text) == "" {
		return "", nil // libvirt refuses it
	}
	id, _, err := scanDefinition(text)
	return id, err
}

// WithUUID returns the XML of a new domain, with a UUID in it. libvirt would make up a UUID if the
// XML did not have one.
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

// scanDefinition returns the root's <uuid>, and the offset behind the root's start tag.
func scanDefinition(text string) (id string, behindRoot int64, err error) {
	fail := func(reason string) (string, int64, error) {
		return "", 0, fmt.Errorf("it cannot be told which domain the XML defines: %s; write it as virsh dumpxml prints it", reason)
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

// inUTF8 reports whether an XML declaration allows no encoding but UTF-8. Package xml misses an
// encoding with blanks before the equals sign. Otherwise a text in UTF-7, in which <uuid> is other
// bytes, would pass as one without a UUID.
func inUTF8(declaration []byte) bool {
	count := bytes.Count(declaration, []byte("encoding"))
	return count == 0 || count == 1 && utf8Encoding.Match(declaration)
}

var utf8Encoding = regexp.MustCompile(`encoding\s*=\s*["'](?i:utf-8)["']`)

// normalUUID returns a UUID in libvirt's form. Like libvirt it ignores blanks around the UUID, and
// hyphens anywhere.
func normalUUID(s string) (string, error) {
	u := uuid.Canonical(strings.TrimSpace(s))
	if u == "" {
		return "", fmt.Errorf("%.60q is no UUID", s)
	}
	return u, nil
}

// KeepsMarks reports whether a new definition leaves the marks of the old one as they are, which is
// so if the old one has no marks. It reports false if a definition cannot be read.
func KeepsMarks(before, after []byte) bool {
	old, ok := marks(before)
	if !ok {
		return false
	}
	if len(old) == 0 {
		return true
	}
	remaining, ok := marks(after)
	return ok && reflect.DeepEqual(old, remaining)
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
