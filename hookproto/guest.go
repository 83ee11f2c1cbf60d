package hookproto

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

const (
	maxGuests    = 10000
	maxGuestsXML = 64 << 20 // bytes, all status files together
)

// Guest is a domain with a live process.
type Guest struct {
	Name    string  // Name is the domain's name, as in its pid file.
	Process Process // Process is never gone; unknown if its liveness cannot be determined.
	XML     []byte  // XML is the <domain> element of the status file; nil if Err is set. It holds secrets such as VNC passwords: neither print nor store it.
	Err     error   // Err is the reason for a missing XML or an untrusted status: the domain counts, but nothing more is known about it.
}

// Guests returns every domain of this host with a live process and a status file, from libvirt's
// state directory, sorted by name. A domain that is being started has a pid file before it has a
// status file, and is left out until then. An error would refuse the stops of other domains
// meanwhile. If the files of a domain cannot be read, the domain is in the list with its error, so
// that it is neither lost nor hides the others. Guests returns an error only if the directory
// itself cannot be read, or holds more than 10000 domains. At most 64 MiB of status files are read;
// each domain beyond has an error.
func (h Host) Guests() ([]Guest, error) {
	dir, err := h.openState()
	if err != nil {
		return nil, errors.New("libvirt's state directory " + h.path(runDirs[0]+"qemu") + " cannot be opened: " + reason(err))
	}
	defer dir.close()
	files, err := dir.file.Readdirnames(-1)
	if err != nil {
		return nil, errors.New("libvirt's state directory " + h.path(runDirs[0]+"qemu") + " cannot be read: " + reason(err))
	}
	var names []string
	for _, file := range files {
		if name, ok := strings.CutSuffix(file, ".xml"); ok && name != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names) // sorting the files would put web-01.xml before web.xml
	var guests []Guest
	room := maxGuestsXML
	for _, name := range names {
		g := h.guest(dir, name, room)
		if g.Process.Gone() {
			continue
		}
		if len(guests) == maxGuests {
			return guests, errors.New("libvirt's state directory holds more than 10000 domains")
		}
		room -= len(g.XML)
		guests = append(guests, g)
	}
	return guests, nil
}

func (h Host) guest(dir stateDir, name string, room int) Guest {
	p, status, err := h.process(dir, name)
	g := Guest{Name: name, Process: p, Err: err}
	if err != nil || p.Gone() {
		return g
	}
	g.Process = h.confirm(p.identify(status.UUID), status.UUID)
	if status.size > int64(room) {
		g.Err = errors.New("the status files are larger than 64 MiB together")
		return g
	}
	data := status.data
	if status.size > int64(len(data)) {
		if data, err = dir.read(name+".xml", int64(room)); err != nil {
			g.Err = fmt.Errorf("the status file cannot be read: %w", err)
			return g
		}
	}
	if g.XML = status.domain(data); g.XML == nil {
		g.Err = errors.New("the status file changed while it was read")
	}
	return g
}
