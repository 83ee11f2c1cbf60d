package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/server/types"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/hookproto/remote"
	"github.com/stopguard/stopguard/internal/fleet"
	"github.com/stopguard/stopguard/internal/hostfile"
)

// noFleet is the answer of an agent that does not take part in a fleet.
const noFleet = "the agent takes part in no fleet: its configuration has no stopguard.fleet; see docs/fleet.md"

// joinFleet joins the configured fleet, if there is one.
func (a *agent) joinFleet(ctx context.Context) error {
	settings := a.config.settings.Fleet
	if settings == nil {
		return nil
	}
	machine, err := machineID(a.root)
	if err != nil {
		return fmt.Errorf("stopguard.fleet: %w", err)
	}
	changed := make(chan struct{}, 1)
	a.fleet, err = fleet.Open(fleet.Config{Settings: *settings, Machine: machine, Observe: a.observe, Changed: changed, Log: a.logger.Warn})
	if err != nil {
		return fmt.Errorf("stopguard.fleet: %w", err)
	}
	go fleet.WatchFolder(ctx, filepath.Join("/", a.root, "run/libvirt/qemu"), changed)
	a.metrics.registry.MustRegister(a.fleet.Collector())
	return nil
}

// machineID returns an ID that differs between hosts of the same name. It does not reveal the
// content of /etc/machine-id, from which other programs derive secrets.
func machineID(root string) (string, error) {
	content, err := hostfile.Root(root).Read("/etc/machine-id", 1<<10)
	if err != nil {
		return "", fmt.Errorf("%w; make one with systemd-machine-id-setup", err)
	}
	sum := sha256.Sum256([]byte("stopguard fleet " + strings.TrimSpace(string(content))))
	return hex.EncodeToString(sum[:16]), nil
}

// mountFleet adds the handler of requests about the fleet from hooks, gates and the operator's
// tool.
func (a *agent) mountFleet(mux *http.ServeMux) {
	if a.fleet != nil {
		mux.Handle(remote.FleetPath, a.fleet.Handler())
		return
	}
	mux.HandleFunc("POST "+remote.FleetPath, func(w http.ResponseWriter, _ *http.Request) {
		write(w, http.StatusOK, remote.FleetAnswer{Error: noFleet})
	})
	mux.HandleFunc("GET "+remote.FleetPath, func(w http.ResponseWriter, _ *http.Request) {
		writeError(w, http.StatusNotFound, types.CodeResourceNotFound, noFleet)
	})
}

// askFleet answers the agent's own requests about the fleet.
func (a *agent) askFleet(ctx context.Context, r remote.FleetRequest) (remote.FleetAnswer, error) {
	if a.fleet == nil {
		return remote.FleetAnswer{Error: noFleet}, nil
	}
	return a.fleet.Answer(ctx, r), nil
}

// observe returns the observation that the host publishes in the fleet.
func (a *agent) observe(ctx context.Context) (fleet.Observation, error) {
	engine, err := a.bundles.Engine(ctx)
	if err != nil {
		return fleet.Observation{}, err
	}
	guests, err := hookproto.Host{Root: a.root}.Guests()
	if err != nil {
		return fleet.Observation{}, fmt.Errorf("the running domains cannot be read: %w; look at the folder", err)
	}
	groups := engine.FleetGroups()
	o := fleet.Observation{Groups: []fleet.GroupSettings{}}
	for _, g := range groups {
		o.Groups = append(o.Groups, fleet.GroupSettings{Name: g.Name, Min: g.Min, Hash: g.Hash})
	}
	slices.SortFunc(o.Groups, func(a, b fleet.GroupSettings) int { return strings.Compare(a.Name, b.Name) })
	for _, guest := range guests {
		status := guest.Process.Status
		d := fleet.Domain{Name: status.Name, UUID: strings.ToLower(status.UUID), PID: guest.Process.PID, Start: guest.Process.Start, State: status.State}
		if len(groups) == 0 || guest.Err != nil {
			o.Domains = append(o.Domains, d)
			continue
		}
		if domain, err := domainxml.Parse(guest.XML); err == nil {
			d.Name, d.UUID = domain.Name, domain.UUID
			for _, g := range groups {
				if g.Holds(domain.Name, domain.UUID, domain.Metadata) {
					d.Groups = append(d.Groups, g.Name)
				}
			}
			slices.Sort(d.Groups)
		}
		o.Domains = append(o.Domains, d)
	}
	return o, nil
}
