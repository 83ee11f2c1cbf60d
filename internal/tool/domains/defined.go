package domains

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/hostfile"
	"github.com/stopguard/stopguard/internal/tool/cli"
)

// definitions is the folder in which libvirt keeps NAME.xml of each defined domain, whether it runs
// or not.
const definitions = "/etc/libvirt/qemu"

const (
	maxDefined    = 10000
	maxDefinedXML = 64 << 20 // bytes of all definitions together
)

// All returns the domains of this host: those that run, and then those that are off. With an error,
// those that were found.
func All() ([]Subject, error) {
	// A domain that stops between the two reads is among those that are off.
	defined, unread := readDefined()
	guests, err := Running()
	if err != nil {
		return OfGuests(guests), err // which of the defined ones are off is not known
	}
	return slices.Concat(OfGuests(guests), notAmong(guests, defined)), unread
}

// off returns the domains of this host that are defined and do not run.
func off() ([]Subject, error) {
	defined, unread := readDefined()
	guests, err := Running()
	if err != nil {
		return nil, err
	}
	return notAmong(guests, defined), unread
}

func notAmong(guests []hookproto.Guest, defined []Subject) []Subject {
	return slices.DeleteFunc(defined, func(s Subject) bool {
		return slices.ContainsFunc(guests, func(g hookproto.Guest) bool {
			return g.Name == s.Name || s.UUID != "" && strings.EqualFold(g.Process.Status.UUID, s.UUID)
		})
	})
}

// readDefined reads libvirt's definitions. Like libvirt, it takes a missing folder for no
// definition, and passes over a file that is not called like its domain.
func readDefined() ([]Subject, error) {
	entries, err := os.ReadDir(filepath.Join("/", cli.HostRoot(), definitions))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("the defined domains cannot be listed: %w; run as root", err)
	}
	var subjects []Subject
	room := int64(maxDefinedXML)
	for _, entry := range entries {
		name, ok := strings.CutSuffix(entry.Name(), ".xml")
		if !ok || name == "" || entry.IsDir() {
			continue
		}
		if len(subjects) == maxDefined {
			return subjects, fmt.Errorf("%s holds more than %d domains; name those that you want to see", definitions, maxDefined)
		}
		s := Subject{Name: name, State: StateOff}
		content, err := hostfile.Root(cli.HostRoot()).Read(filepath.Join(definitions, entry.Name()), room)
		if errors.Is(err, fs.ErrNotExist) {
			continue // undefined meanwhile
		}
		if s.Err = err; err == nil {
			room -= int64(len(content))
			if s.Domain, err = domainxml.Parse(content); err != nil {
				s.Err = fmt.Errorf("%w; look at the domain with virsh dumpxml --inactive", err)
			} else if s.UUID = s.Domain.UUID; s.Domain.Name != name {
				continue
			}
		}
		subjects = append(subjects, s)
	}
	return subjects, nil
}
