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
	Name    string  // Name is the domain's name, as its pid file has it.
	Process Process // Process is never gone; unknown where it cannot be told.
	XML     []byte  // XML is the <domain> element of the status file. It holds secrets such as VNC passwords: neither print nor keep it. nil if Err is set.
	Err     error   // Err is why there is no XML or no trustworthy status: the domain counts, but nothing more is known of it.
}

// Guests returns every domain of this host with a live process and a status file, in the
// order of their names, from libvirt's state directory. One that is being started has a
// pid file before it has a status file, and is not in the list until then: nothing is
// known of it, and it is no error, for which stops of other domains would be refused. A
// domain whose files are there and cannot be read is in the list with its error, so that
// it is neither lost nor hides the others. The error is non-nil only if the directory
// itself cannot be read, or holds more than 10000 domains. At most 64 MiB of status files
// are read; the domains beyond have an error each.
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
	slices.Sort(names) // not the files: web-01.xml comes before web.xml
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
