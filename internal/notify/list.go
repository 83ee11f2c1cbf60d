package notify

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/stopguard/stopguard/internal/hostfile"
	"github.com/stopguard/stopguard/internal/hostpath"
	"github.com/stopguard/stopguard/internal/protectedlist"
	"github.com/stopguard/stopguard/internal/quote"
)

// maxEntries bounds the entries of the list that an event names.
const maxEntries = 100

const maxList = 16 << 20 // bytes

// seeList returns the event that entries were removed from the protected list.
func (w *watcher) seeList(now *state) ([]Event, error) {
	content, err := hostfile.Root(w.root).Read(hostpath.List, maxList)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	list, err := protectedlist.Parse(hostpath.List, content)
	if err != nil {
		return nil, err
	}
	entries := list.Entries()
	slices.Sort(entries)
	entries = slices.Compact(entries)
	var gone []string
	for _, entry := range now.List {
		if _, ok := slices.BinarySearch(entries, entry); !ok {
			gone = append(gone, entry)
		}
	}
	now.List = entries
	if len(gone) == 0 {
		return nil, nil
	}
	shown := gone[:min(len(gone), maxEntries)]
	text := "taken off the protected list: " + quote.Text(gone[0])
	if len(gone) > 1 {
		text += fmt.Sprintf(" and %d more", len(gone)-1)
	}
	return []Event{{What: ListRemoved, Entries: shown, Count: len(gone), Text: text}}, nil
}
