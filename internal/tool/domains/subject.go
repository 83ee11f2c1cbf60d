package domains

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/hookproto"
)

// A Subject is a domain to decide about.
type Subject struct {
	Name    string
	UUID    string
	Domain  *domainxml.Domain // nil if Err is set
	Process hookproto.Process
	State   string // "" for a domain that a file describes, or that is not found
	Err     error
}

// The states of a domain.
const (
	StateRunning = "running" // it has a process: it may be paused
	StateOff     = "off"     // it is defined, and does not have one
)

// OfGuests returns the domains that run.
func OfGuests(guests []hookproto.Guest) []Subject {
	var subjects []Subject
	for _, g := range guests {
		s := Subject{Name: g.Name, UUID: strings.ToLower(g.Process.Status.UUID), Process: g.Process, State: StateRunning, Err: g.Err}
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

// maxXML is the largest size of a domain's file.
const maxXML = hookproto.MaxXML

// OfFiles returns the domains that files describe. The file "-" is stdin.
func OfFiles(files []string, stdin io.Reader) []Subject {
	var subjects []Subject
	for _, file := range files {
		s := Subject{Name: file}
		content, err := readXML(file, stdin)
		if err == nil {
			s.Domain, err = domainxml.Parse(content)
		}
		if err != nil {
			s.Err = fmt.Errorf("%w; give XML as of virsh dumpxml", err)
		} else {
			s.Name, s.UUID = s.Domain.Name, s.Domain.UUID
		}
		subjects = append(subjects, s)
	}
	return subjects
}

func readXML(file string, stdin io.Reader) ([]byte, error) {
	if file == "-" {
		return readLimited("stdin", stdin, maxXML)
	}
	return ReadFile(file, maxXML)
}

// ReadFile reads a file, or a pipe, up to the limit. A larger one is an error.
func ReadFile(file string, limit int64) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return readLimited(file, f, limit)
}

func readLimited(name string, from io.Reader, limit int64) ([]byte, error) {
	content, err := io.ReadAll(io.LimitReader(from, limit+1))
	switch {
	case err != nil:
		return nil, err
	case int64(len(content)) > limit:
		return nil, fmt.Errorf("%s is larger than %d bytes", name, limit)
	case len(content) == 0:
		return nil, fmt.Errorf("%s is empty", name)
	}
	return content, nil
}
