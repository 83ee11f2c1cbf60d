package fleet

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/stopguard/stopguard/internal/fleetstatus"
)

// Status returns the state of the fleet from the host's cache, which may lag behind etcd a little.
func (f *Fleet) Status() fleetstatus.Status {
	s := fleetstatus.Status{
		Host: f.config.Host, Endpoints: f.config.Endpoints, Problems: f.health.problems(),
		Groups: []fleetstatus.Group{}, Hosts: []fleetstatus.Host{},
	}
	c := f.cache
	c.mu.RLock()
	defer c.mu.RUnlock()
	groups := map[string]*fleetstatus.Group{}
	group := func(name string) *fleetstatus.Group {
		if groups[name] == nil {
			groups[name] = &fleetstatus.Group{
				Name: name, Settings: []fleetstatus.Settings{}, Members: []fleetstatus.Member{}, Reservations: []fleetstatus.Reservation{},
			}
		}
		return groups[name]
	}
	for _, host := range slices.Sorted(maps.Keys(c.known)) {
		_, isThere := c.hosts[host]
		s.Hosts = append(s.Hosts, fleetstatus.Host{Name: host, IsThere: isThere})
	}
	for _, host := range slices.Sorted(maps.Keys(c.hosts)) {
		set := c.hosts[host].Groups
		if own := f.groups.Load(); own != nil && host == f.config.Host {
			set = *own // includes groups without members
		}
		for _, g := range set {
			addSettings(group(g.Name), g, host)
		}
	}
	reserved := map[reservable]bool{}
	for _, r := range c.reservations {
		reserved[reservable{r.group, r.uuid}] = true
		g := group(r.group)
		g.Reservations = append(g.Reservations, fleetstatus.Reservation{
			Name: r.Name, UUID: r.uuid, Host: r.host, Operation: r.Operation, Requester: r.Requester, Ticket: r.Ticket, Since: r.Since,
		})
	}
	for _, m := range c.members {
		for _, name := range m.Groups {
			g := group(name)
			g.Members = append(g.Members, fleetstatus.Member{Name: m.Name, UUID: m.UUID, Host: m.Host, Since: m.Since, Reserved: reserved[reservable{name, m.UUID}]})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		g := groups[name]
		slices.SortFunc(g.Members, func(a, b fleetstatus.Member) int {
			return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.UUID, b.UUID), strings.Compare(a.Host, b.Host))
		})
		slices.SortFunc(g.Reservations, func(a, b fleetstatus.Reservation) int {
			return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.UUID, b.UUID), strings.Compare(a.Host, b.Host))
		})
		s.Groups = append(s.Groups, *g)
	}
	return s
}

func addSettings(to *fleetstatus.Group, g GroupSettings, host string) {
	for i, known := range to.Settings {
		if known.Min == g.Min && known.Hash == g.Hash {
			to.Settings[i].Hosts = append(known.Hosts, host)
			return
		}
	}
	to.Settings = append(to.Settings, fleetstatus.Settings{Min: g.Min, Hash: g.Hash, Hosts: []string{host}})
}
