package protectedlist

import (
	"slices"
	"strings"
	"sync"

	"github.com/stopguard/stopguard/internal/uuid"
)

// listIndex has the names and UUIDs of a list, so that a match need not search the text.
type listIndex struct {
	once  sync.Once
	names map[string]struct{}
	uuids map[uuid.UUID][]string // entries, in the order of the file
}

// matchIndexed does the work of Match with the index, which it builds once.
func (l *List) matchIndexed(domainName, domainUUID string) []string {
	l.index.once.Do(l.makeIndex)
	found := []string{}
	name := trim(domainName)
	if _, listed := l.index.names[name]; listed && name != "" {
		found = append(found, name)
	}
	if u, ok := uuid.Parse(domainUUID); ok {
		for _, entry := range l.index.uuids[u] {
			if !slices.Contains(found, entry) {
				found = append(found, entry)
			}
		}
	}
	return l.addGlobs(found, domainName)
}

func (l *List) makeIndex() {
	l.index.names = make(map[string]struct{}, strings.Count(l.text, "\n")+1)
	for line := range strings.Lines(l.text) {
		whole, before := readings(strings.TrimSuffix(line, "\n"))
		l.index.names[whole], l.index.names[before] = struct{}{}, struct{}{}
	}
	l.index.uuids = map[uuid.UUID][]string{}
	for _, e := range l.uuids {
		l.index.uuids[e.uuid] = append(l.index.uuids[e.uuid], e.text)
	}
}
