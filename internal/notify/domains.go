package notify

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/hostfile"
	"github.com/stopguard/stopguard/internal/operation"
	"github.com/stopguard/stopguard/internal/protection"
	"github.com/stopguard/stopguard/internal/quote"
)

// definitions are the files of the domains that libvirt keeps, whether they run or not.
const definitions = "/etc/libvirt/qemu/*.xml"

const maxDefinition = 64 << 20 // bytes

// marks maps each operation that a domain's marks refuse to its end. The zero time means that it
// does not end; a nil map, that the domain does not have such XML.
type marks map[string]time.Time

// A domain is what was seen of a domain's marks.
type domain struct {
	Name    string `json:"name"`
	Running marks  `json:"running"`    // of the running domain
	Defined marks  `json:"definition"` // of the definition that it starts with the next time
}

func (d domain) has() bool { return len(d.Running)+len(d.Defined) > 0 }

// A domainReader reads the domains again only if a file has changed.
type domainReader struct {
	stamp string
	all   map[string]domain
	names map[string]bool // of files that could not be read, and of their domains
	err   error           // of the running ones
}

// read returns the domains by UUID.
func (r *domainReader) read(root string, at time.Time) {
	stamp := stampOf(filepath.Join("/", root, definitions), filepath.Join("/", root, "/run/libvirt/qemu/*"))
	if stamp == r.stamp && r.all != nil {
		return
	}
	r.all, r.names, r.err = map[string]domain{}, map[string]bool{}, nil
	add := func(xml []byte, name string, set func(*domain, marks)) {
		d, err := domainxml.Parse(xml)
		if err != nil || d.MetadataErr != nil {
			r.names[name] = true
			return
		}
		known := r.all[d.UUID]
		known.Name = d.Name
		set(&known, marksOf(d, at))
		r.all[d.UUID] = known
	}
	guests, err := hookproto.Host{Root: root}.Guests()
	if r.err = err; err != nil {
		if _, missing := os.Stat(filepath.Join("/", root, "/run/libvirt/qemu")); errors.Is(missing, fs.ErrNotExist) {
			r.err = nil // libvirt's daemon has not run since the boot
		}
	}
	for _, g := range guests {
		if g.Err != nil {
			r.names[g.Name] = true
			continue
		}
		add(g.XML, g.Name, func(d *domain, m marks) { d.Running = m })
	}
	files, _ := filepath.Glob(filepath.Join("/", root, definitions)) // an error is about the pattern
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".xml")
		xml, err := hostfile.Root(root).Read(filepath.Join(filepath.Dir(definitions), filepath.Base(file)), maxDefinition)
		switch {
		case errors.Is(err, fs.ErrNotExist): // undefined meanwhile
		case err != nil:
			r.names[name] = true
		default:
			add(xml, name, func(d *domain, m marks) { d.Defined = m })
		}
	}
	r.stamp = stamp
}

// stampOf returns a text that changes with the files that match.
func stampOf(patterns ...string) string {
	var b strings.Builder
	for _, pattern := range patterns {
		files, _ := filepath.Glob(pattern)
		for _, file := range files {
			if info, err := os.Lstat(file); err == nil && info.Mode().IsRegular() {
				fmt.Fprintln(&b, file, info.Size(), info.ModTime().UnixNano(), info.Sys().(*syscall.Stat_t).Ino)
			}
		}
	}
	return b.String()
}

// marksOf returns what a domain's marks refuse. What is almost a mark is not missed when it is
// corrected.
func marksOf(d *domainxml.Domain, at time.Time) marks {
	all := marks{}
	for _, m := range protection.Marks(d, at) {
		if !m.InForce || m.Note != "" {
			continue
		}
		for _, name := range m.Operations {
			if until, ok := all[name]; !ok || isLater(m.Lapses, until) {
				all[name] = m.Lapses
			}
		}
	}
	return all
}

// isLater reports whether an end is later than another. The zero time never comes.
func isLater(a, b time.Time) bool { return !b.IsZero() && (a.IsZero() || a.After(b)) }

// without returns the operations that are refused now, and were not to end yet, and that others
// refuse not at all or not as long.
func (m marks) without(others marks, at time.Time) (gone, sooner []string) {
	for _, name := range operation.All() {
		until, ok := m[name]
		if !ok || !until.IsZero() && !until.After(at) {
			continue
		}
		other, ok := others[name]
		switch {
		case !ok:
			gone = append(gone, name)
		case isLater(until, other):
			sooner = append(sooner, name)
		}
	}
	return gone, sooner
}

// seeDomains compares the marks of all domains.
func (w *watcher) seeDomains(now *state, at time.Time) ([]Event, error) {
	w.domains.read(w.root, at)
	r := &w.domains
	old := now.Domains
	now.Domains = map[string]domain{}
	var events []Event
	for id, d := range r.all {
		if d.has() {
			now.Domains[id] = d
		}
	}
	for _, id := range slices.Sorted(maps.Keys(old)) {
		before := old[id]
		after, isThere := r.all[id]
		if r.names[before.Name] || r.names[after.Name] || r.err != nil && before.Running != nil && after.Running == nil {
			now.Domains[id] = before
			continue
		}
		if e, has := compare(before, after, at); has {
			e.UUID = id
			e.DomainGone = !isThere
			e.Text = textOfMark(e)
			events = append(events, e)
		}
	}
	if r.err != nil {
		return events, fmt.Errorf("the running domains: %w", r.err)
	}
	return events, nil
}

// compare returns the event of what a domain's marks have lost.
func compare(before, after domain, at time.Time) (Event, bool) {
	e := Event{What: MarkRemoved, Name: before.Name}
	if after.Name != "" {
		e.Name = after.Name
	}
	left := false
	for _, source := range []struct {
		name                string
		before, same, other marks
	}{
		{"running", before.Running, after.Running, after.Defined},
		{"definition", before.Defined, after.Defined, after.Running},
	} {
		against := source.same
		if against == nil {
			against = source.other
		}
		gone, sooner := source.before.without(against, at)
		if len(gone)+len(sooner) == 0 {
			continue
		}
		e.RemovedFrom = append(e.RemovedFrom, source.name)
		for _, name := range slices.Concat(gone, sooner) {
			if !slices.Contains(e.Operations, name) {
				e.Operations = append(e.Operations, name)
			}
		}
		for _, name := range sooner {
			e.Until = against[name]
		}
		left = left || len(against) > 0
	}
	if left {
		e.What = MarkNarrowed
	}
	return e, len(e.RemovedFrom) > 0
}

func textOfMark(e Event) string {
	text := quote.Text(e.Name) + ": its protection mark "
	switch {
	case e.DomainGone:
		return text + "has gone with the domain"
	case e.What == MarkRemoved:
		text += "was removed"
	case e.Until.IsZero():
		text += "refuses less: no longer " + strings.Join(e.Operations, ", ")
	default:
		text += "ends sooner, or refuses less: " + strings.Join(e.Operations, ", ")
	}
	if !slices.Contains(e.RemovedFrom, "running") {
		text += " (in its definition, which it starts with the next time)"
	}
	return text
}
