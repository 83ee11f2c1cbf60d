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
	"github.com/stopguard/stopguard/internal/definition"
	"github.com/stopguard/stopguard/internal/operation"
	"github.com/stopguard/stopguard/internal/protection"
	"github.com/stopguard/stopguard/internal/quote"
)

// stateFolder is where libvirt keeps the status files of running domains.
const stateFolder = "/run/libvirt/qemu"

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

// A domainReader reads the domains again only if a file has changed, or not all could be read: the
// cause, such as too many open files, may be gone although no file has changed.
type domainReader struct {
	stamp   string
	all     map[string]domain // by UUID
	unread  map[string]error  // of the domains and files whose marks cannot be read, by name
	running error             // why not all running domains were found
	defined error             // why not all definitions were found
}

// read reads the domains.
func (r *domainReader) read(root string, at time.Time) {
	stamp := stampOf(root)
	if stamp == r.stamp && r.all != nil && r.running == nil && r.defined == nil && len(r.unread) == 0 {
		return
	}
	r.all, r.unread = map[string]domain{}, map[string]error{}
	add := func(d *domainxml.Domain, name string, err error, set func(*domain, marks)) {
		if err == nil {
			err = d.MetadataErr
		}
		if err != nil {
			r.unread[name] = err
			return
		}
		known := r.all[d.UUID]
		known.Name = d.Name
		set(&known, marksOf(d, at))
		r.all[d.UUID] = known
	}
	guests, err := hookproto.Host{Root: root}.Guests()
	if r.running = err; err != nil {
		if _, missing := os.Stat(filepath.Join("/", root, stateFolder)); errors.Is(missing, fs.ErrNotExist) {
			r.running = nil // libvirt's daemon has not run since the boot
		}
	}
	for _, g := range guests {
		var d *domainxml.Domain
		err := g.Err
		if err == nil {
			d, err = domainxml.Parse(g.XML)
		}
		add(d, g.Name, err, func(d *domain, m marks) { d.Running = m })
	}
	defined, err := definition.All(root)
	r.defined = err
	for _, one := range defined {
		add(one.Domain, one.Name, one.Err, func(d *domain, m marks) { d.Defined = m })
	}
	r.stamp = stamp
}

// keeps reports whether what was seen of a domain stays, because it cannot be seen now.
func (r *domainReader) keeps(before, after domain) bool {
	return r.unread[before.Name] != nil || r.unread[after.Name] != nil ||
		r.running != nil && before.Running != nil && after.Running == nil ||
		r.defined != nil && before.Defined != nil && after.Defined == nil
}

// err returns what could not be read, and how much more than the first domain.
func (r *domainReader) err() error {
	var failed []error
	if r.running != nil {
		failed = append(failed, fmt.Errorf("the running domains: %w", r.running))
	}
	if r.defined != nil {
		failed = append(failed, r.defined)
	}
	if len(r.unread) > 0 {
		name := slices.Min(slices.Collect(maps.Keys(r.unread)))
		text := "the marks of " + quote.Text(name)
		if more := len(r.unread) - 1; more > 0 {
			text += fmt.Sprintf(" and of %d more", more)
		}
		failed = append(failed, fmt.Errorf("%s: %w", text, r.unread[name]))
	}
	return errors.Join(failed...)
}

// stamped are the files that are read, and the folders whose owner and mode decide whether the
// definitions can be.
var stamped = []string{"/", "/etc", "/etc/libvirt", definition.Folder, definition.Folder + "/*.xml", stateFolder + "/*"}

// stampOf returns a text that changes with the files that are read, and with who may write them.
func stampOf(root string) string {
	var b strings.Builder
	for _, pattern := range stamped {
		files, _ := filepath.Glob(filepath.Join("/", root, pattern)) // an error is about the pattern
		for _, file := range files {
			if info, err := os.Lstat(file); err == nil {
				st := info.Sys().(*syscall.Stat_t)
				fmt.Fprintln(&b, file, st.Size, st.Ctim.Nano(), st.Ino)
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
		if r.keeps(before, after) {
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
	return events, r.err()
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
