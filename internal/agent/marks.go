package agent

import (
	"encoding/json"
	"errors"
	"io/fs"
	"sync"
	"time"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/hostfile"
	"github.com/stopguard/stopguard/internal/protection"
)

const maxMarks = 64 << 20 // bytes of protection.MarksFile

// marks detects removed protection marks. Every user who may write a domain's metadata may remove
// its mark. So marks compares with the marks that stopguard check has remembered. If check does not
// run on the host, it compares with the marks that it has seen itself. It is safe for concurrent
// use.
type marks struct {
	root string

	mu   sync.Mutex
	seen map[string]time.Time // when a mark lapses, by UUID; the zero time if it does not lapse
}

// gone returns the number of running domains that have lost their mark.
func (m *marks) gone() (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.remember(); err != nil {
		return 0, err
	}
	guests, err := hookproto.Host{Root: m.root}.Guests()
	if err != nil {
		return 0, err
	}
	now, n := time.Now(), 0
	for _, guest := range guests {
		if guest.Err != nil {
			continue
		}
		domain, err := domainxml.Parse(guest.XML)
		if err != nil || domain.MetadataErr != nil {
			continue
		}
		if until, ok := markOf(domain, now); ok {
			m.seen[domain.UUID] = until
			continue
		}
		if until, ok := m.seen[domain.UUID]; ok && (until.IsZero() || until.After(now)) {
			n++
		}
	}
	return n, nil
}

// remember reads the marks that a check has remembered. A mark that a check has forgotten was
// removed on purpose.
func (m *marks) remember() error {
	content, err := hostfile.Root(m.root).Read(protection.MarksFile, maxMarks)
	if errors.Is(err, fs.ErrNotExist) {
		if m.seen == nil {
			m.seen = map[string]time.Time{}
		}
		return nil
	}
	if err != nil {
		return err
	}
	var file struct {
		Marks []struct {
			UUID  string    `json:"uuid"`
			Until time.Time `json:"until"`
		} `json:"marks"`
	}
	if err := json.Unmarshal(content, &file); err != nil {
		return err
	}
	m.seen = map[string]time.Time{}
	for _, mark := range file.Marks {
		m.seen[mark.UUID] = mark.Until
	}
	return nil
}

// markOf returns the latest time at which a domain's marks lapse; the zero time if one does not
// lapse. It reports whether a mark is in force.
func markOf(d *domainxml.Domain, now time.Time) (until time.Time, ok bool) {
	for _, mark := range protection.Marks(d, now) {
		if !mark.InForce || mark.Note != "" { // a faulty mark may be corrected, and is then not a removed one
			continue
		}
		if mark.Lapses.IsZero() {
			return time.Time{}, true
		}
		if mark.Lapses.After(until) {
			until, ok = mark.Lapses, true
		}
	}
	return until, ok
}
