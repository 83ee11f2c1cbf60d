package hostgen

import (
	"iter"
	"slices"
)

// Only returns the host with only one of its domains.
func (h Host) Only(i int) Host {
	h.Domains = []Domain{h.Domains[i]}
	return h
}

// Smallest returns the smallest host for which fails reports true, by leaving out one part after
// the other.
func (h Host) Smallest(fails func(Host) bool) Host {
	for isSmaller := true; isSmaller; {
		isSmaller = false
		for smaller := range h.smaller() {
			if fails(smaller) {
				h, isSmaller = smaller, true
				break
			}
		}
	}
	return h
}

// smaller yields the hosts with one part less.
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

// without calls yield with copies of the list without one element each, until yield returns false.
func without[T any](list []T, yield func([]T) bool) bool {
	for i := range list {
		if !yield(slices.Delete(slices.Clone(list), i, i+1)) {
			return false
		}
	}
	return true
}
