package hostgen

import (
	"iter"
	"slices"
)

// Only returns the host with one of its domains alone.
func (h Host) Only(i int) Host {
	h.Domains = []Domain{h.Domains[i]}
	return h
}

// Smallest returns a host from which no part can be left out, by one that fails: a smaller host is
// tried if it fails, too.
func (h Host) Smallest(fails func(Host) bool) Host {
	for again := true; again; {
		again = false
		for smaller := range h.smaller() {
			if fails(smaller) {
				h, again = smaller, true
				break
			}
		}
	}
	return h
}

// smaller yields the host with one part less.
func (h Host) smaller() iter.Seq[Host] {
	return func(yield func(Host) bool) {
		_ = without(h.Holds, func(list []Hold) bool { x := h; x.Holds = list; return yield(x) }) &&
			without(h.Tickets, func(list []Ticket) bool { x := h; x.Tickets = list; return yield(x) }) &&
			without(h.List, func(list []string) bool { x := h; x.List = list; return yield(x) }) &&
			without(h.Settings, func(list []Setting) bool { x := h; x.Settings = list; return yield(x) }) &&
			without(h.Rules, func(list []Rule) bool { x := h; x.Rules = list; return yield(x) }) &&
			without(h.Domains[0].Metadata, func(list []string) bool {
				x := h
				x.Domains = slices.Clone(h.Domains)
				x.Domains[0].Metadata = list
				return yield(x)
			})
	}
}

// without calls yield with the list without each of its elements, until it returns false.
func without[T any](list []T, yield func([]T) bool) bool {
	for i := range list {
		if !yield(slices.Delete(slices.Clone(list), i, i+1)) {
			return false
		}
	}
	return true
}
