package domains

import (
	"fmt"
	"os"
	"strings"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/hookproto"
)

// A Subject is a domain that is asked about.
type Subject struct {
	Name    string
	Uuid    string
	Domain  *domainxml.Domain // nil if err is set
	Process hookproto.Process
	Err     error
}

func OfGuests(guests []hookproto.Guest) []Subject {
	var subjects []Subject
	for _, g := range guests {
		s := Subject{Name: g.Name, Uuid: strings.ToLower(g.Process.Status.UUID), Process: g.Process, Err: g.Err}
		if s.Err == nil {
			s.Domain, s.Err = domainxml.Parse(g.XML)
		}
		if s.Err != nil {
			s.Err = fmt.Errorf("%w; look at the domain with virsh dumpxml, and at libvirt's status file", s.Err)
		}
		subjects = append(subjects, s)
	}
	return subjects
}

// maxXML is the size at which a file is no domain's.
const maxXML = hookproto.MaxXML

func OfFiles(files []string) []Subject {
	var subjects []Subject
	for _, file := range files {
		s := Subject{Name: file}
		content, err := ReadFile(file, maxXML)
		if err == nil {
			s.Domain, err = domainxml.Parse(content)
		}
		if err != nil {
			s.Err = fmt.Errorf("%w; give XML as of virsh dumpxml", err)
		} else {
			s.Name, s.Uuid = s.Domain.Name, s.Domain.UUID
		}
		subjects = append(subjects, s)
	}
	return subjects
}

func ReadFile(file string, limit int64) ([]byte, error) {
	info, err := os.Stat(file)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no regular file", file)
	case info.Size() > limit:
		return nil, fmt.Errorf("%s is larger than %d bytes", file, limit)
	}
	return os.ReadFile(file)
}
