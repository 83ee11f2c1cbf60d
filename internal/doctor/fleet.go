package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/open-policy-agent/opa/v1/util"

	"github.com/stopguard/stopguard/internal/fleetconfig"
	"github.com/stopguard/stopguard/internal/fleetstatus"
	"github.com/stopguard/stopguard/internal/persisted"
	"github.com/stopguard/stopguard/internal/terminal"
	"github.com/stopguard/stopguard/policy"
)

const (
	etcdTime     = 5 * time.Second        // for an answer of etcd; longer than a decision waits
	slowEtcd     = 500 * time.Millisecond // a decision asks twice, within a second
	soonExpires  = 30 * 24 * time.Hour
	fleetHelp    = "see docs/fleet.md"
	restartAgent = "systemctl restart stopguard-agent"
)

// checkFleet checks the conditions for decisions about members of the fleet's groups. engine is nil
// if the policy cannot be loaded: a fleet that the agent cannot join may be the cause.
func (d *doctor) checkFleet(ctx context.Context, engine *policy.Engine) {
	var groups []policy.FleetGroup
	if engine != nil {
		groups = engine.FleetGroups()
	}
	settings, err := d.fleetSettings()
	switch {
	case err != nil:
		d.addError(severityFailure, "fleet", fmt.Errorf("no member of the fleet's groups may be stopped: %w", err))
		return
	case settings == nil && len(groups) == 0:
		return
	case settings == nil:
		d.failure("fleet", "set stopguard.fleet in "+persisted.ConfigFile+", "+fleetHelp+", and then: "+restartAgent,
			"no member of %s may be stopped: this host takes part in no fleet", namesOf(groups))
		return
	}
	d.ok("fleet", "it has %s", terminal.Counted(len(settings.Endpoints), "etcd"))
	if config := d.checkFleetFiles(*settings); config != nil {
		d.checkEtcd(ctx, *settings, config)
	}
	d.checkFleetAgent(ctx, engine)
}

func namesOf(groups []policy.FleetGroup) string {
	var names []string
	for _, g := range groups {
		names = append(names, g.Name)
	}
	return joinShown(names[:min(len(names), maxShown)], len(names))
}

// fleetSettings returns the settings of the fleet in the agent's configuration; nil if it does not
// have any.
func (d *doctor) fleetSettings() (*fleetconfig.Settings, error) {
	config, err := persisted.ReadConfig(d.Root)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	}
	var parsed struct {
		Stopguard struct {
			Fleet *fleetconfig.Settings `json:"fleet"`
		} `json:"stopguard"`
	}
	if err := util.Unmarshal(config.Content, &parsed); err != nil {
		return nil, fmt.Errorf("%s: %s; correct it", persisted.ConfigFile, terminal.OneLine(err.Error()))
	}
	if parsed.Stopguard.Fleet == nil {
		return nil, nil
	}
	if err := parsed.Stopguard.Fleet.Check(); err != nil {
		return nil, fmt.Errorf("%s: stopguard.fleet: %w", persisted.ConfigFile, err)
	}
	return parsed.Stopguard.Fleet, nil
}

// checkFleetFiles checks the owner, the mode and the validity of the files of the host's
// certificate. It returns the configuration for connections to etcd, or nil.
func (d *doctor) checkFleetFiles(s fleetconfig.Settings) *tls.Config {
	before := len(d.findings)
	for _, file := range []string{s.CA, s.Certificate, s.Key} {
		info, err := os.Stat(file)
		if err != nil {
			d.addError(severityFailure, "fleet-files", fmt.Errorf("the agent cannot join the fleet: %w; put it there, fleet-setup makes it", err))
			continue
		}
		owner := info.Sys().(*syscall.Stat_t).Uid
		switch isKey := file == s.Key; {
		case owner != 0 && int(owner) != os.Geteuid() || info.Mode()&0o022 != 0:
			d.warning("fleet-files", "chown root "+file+" && chmod 600 "+file, "%s can be changed by others than root", file)
		case isKey && info.Mode()&0o077 != 0:
			d.warning("fleet-files", "chmod 600 "+file+"; if anyone may have read it, make another with fleet-setup host", "%s can be read by others, who can then act as this host in etcd", file)
		}
	}
	config, err := s.TLS()
	if err != nil {
		if len(d.findings) == before {
			d.addError(severityFailure, "fleet-files", fmt.Errorf("the agent cannot join the fleet: %w", err))
		}
		return nil
	}
	d.checkValidity(s.Certificate, config.Certificates[0].Certificate[0], "make another with fleet-setup host, and then: "+restartAgent)
	if content, err := os.ReadFile(s.CA); err == nil {
		for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
			d.checkValidity(s.CA, block.Bytes, "make another authority and all certificates with fleet-setup")
		}
	}
	if len(d.findings) == before {
		d.ok("fleet-files", "%s", s.Certificate)
	}
	return config
}

func (d *doctor) checkValidity(file string, der []byte, cure string) {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return // the connection to etcd fails then, and has a finding
	}
	const day = "2006-01-02"
	switch now := time.Now(); {
	case now.After(c.NotAfter):
		d.failure("fleet-files", cure, "the certificate in %s has expired on %s", file, c.NotAfter.Format(day))
	case now.Before(c.NotBefore):
		d.failure("fleet-files", "set the host's clock, or "+cure, "the certificate in %s is valid only from %s on", file, c.NotBefore.Format(day))
	case now.Add(soonExpires).After(c.NotAfter):
		d.warning("fleet-files", cure, "the certificate in %s expires on %s", file, c.NotAfter.Format(day))
	}
}

// An etcdState is the answer of one etcd.
type etcdState struct {
	err       error  // the error of the connection
	unhealthy string // its reason for not being healthy
	took      time.Duration
}

// checkEtcd checks the state of each etcd.
func (d *doctor) checkEtcd(ctx context.Context, s fleetconfig.Settings, config *tls.Config) {
	states := make([]etcdState, len(s.Endpoints))
	var all sync.WaitGroup
	for i, endpoint := range s.Endpoints {
		all.Go(func() { states[i] = askEtcd(ctx, endpoint, config) })
	}
	all.Wait()
	bad := 0
	for _, state := range states {
		if state.err != nil || state.unhealthy != "" {
			bad++
		}
	}
	report := d.warning
	if 2*bad >= len(states) {
		report = d.failure // there may be no quorum
	}
	isWell := true
	for i, endpoint := range s.Endpoints {
		switch state := states[i]; {
		case state.err != nil:
			report("fleet-etcd", etcdCure(state.err, s), "etcd at %s: %s", endpoint, terminal.OneLine(state.err.Error()))
		case state.unhealthy != "":
			report("fleet-etcd", "look at the other etcds: more than half of all must run and reach each other; if etcdctl alarm list shows NOSPACE: etcdctl compact, defrag and alarm disarm", "etcd at %s answers that it is not healthy: %s", endpoint, terminal.OneLine(state.unhealthy))
		case state.took > slowEtcd:
			d.warning("fleet-etcd", "look at its disk, its load and the network: a decision waits a second at most", "etcd at %s took %v to answer", endpoint, state.took.Round(time.Millisecond))
		default:
			continue
		}
		isWell = false
	}
	if isWell {
		d.ok("fleet-etcd", "%s", strings.Join(s.Endpoints, ", "))
	}
}

// askEtcd connects to an endpoint, and asks for its health, which etcd tests by a read of its
// store. An endpoint without this page, which is for gRPC only, is well if it accepts the
// connection.
func askEtcd(ctx context.Context, endpoint string, config *tls.Config) etcdState {
	ctx, cancel := context.WithTimeout(ctx, etcdTime)
	defer cancel()
	if err := fleetconfig.Connect(ctx, endpoint, config); err != nil {
		return etcdState{err: err}
	}
	transport := &http.Transport{TLSClientConfig: config.Clone()}
	defer transport.CloseIdleConnections()
	var state etcdState
	var content []byte
	for range 2 { // the first one connects
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint+"/health", nil)
		if err != nil {
			return etcdState{err: err}
		}
		began := time.Now()
		response, err := transport.RoundTrip(request)
		if ctx.Err() != nil {
			return etcdState{err: ctx.Err()}
		}
		if err != nil {
			return etcdState{}
		}
		content, _ = io.ReadAll(io.LimitReader(response.Body, 64<<10)) // part of an answer is not JSON
		_ = response.Body.Close()
		state.took = time.Since(began)
	}
	var health struct {
		Health string `json:"health"`
		Reason string `json:"reason"`
	}
	if json.Unmarshal(content, &health) == nil && health.Health == "false" {
		state.unhealthy = "it has no leader, has no space left, or cannot read"
		if health.Reason != "" {
			state.unhealthy = health.Reason
		}
	}
	return state
}

// etcdCure returns the action for an error of a connection to etcd.
func etcdCure(err error, s fleetconfig.Settings) string {
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var op *net.OpError
	var timeout net.Error
	switch {
	case errors.As(err, &authority):
		return "put the certificate of etcd's authority, ca.crt of fleet-setup, into " + s.CA + ", and then: " + restartAgent
	case errors.As(err, &name):
		return "write an address that its certificate has, or make it one with this address: fleet-setup etcd"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "make it another certificate with fleet-setup etcd, or set the host's clock"
	case errors.As(err, &op) && op.Op == "remote error": // a TLS alert
		return "etcd refuses " + s.Certificate + ": make it with the authority that etcd trusts, fleet-setup host, and then: " + restartAgent
	case errors.As(err, &timeout) && timeout.Timeout():
		return "look at etcd there: it hangs, or the network drops its packets"
	}
	return "start etcd there, or correct endpoints in " + persisted.ConfigFile
}

// checkFleetAgent checks the fleet's status that the agent returns.
func (d *doctor) checkFleetAgent(ctx context.Context, engine *policy.Engine) {
	s, err := fleetstatus.Read(ctx, d.Root)
	switch {
	case err != nil && os.Geteuid() != 0 && errors.Is(err, fs.ErrPermission):
		d.unknown("fleet-agent", "run it as root", "%v", err)
		return
	case err != nil:
		d.addError(severityFailure, "fleet-agent", fmt.Errorf("no member of the fleet's groups may be stopped: %w", err))
		return
	case s == nil:
		d.failure("fleet-agent", restartAgent, "no member of the fleet's groups may be stopped: the agent was started before %s had stopguard.fleet", persisted.ConfigFile)
		return
	}
	isWell := true
	for _, p := range s.Problems {
		if slices.Contains(s.Endpoints, p.Part) {
			continue // each etcd was asked already
		}
		isWell = false
		what, cure, _ := strings.Cut(p.Error, "; ")
		switch {
		case strings.Contains(p.Error, "permission denied"):
			cure = "give this host its role: fleet-setup roles, with its name " + terminal.Clean(s.Host) + "; or correct host in " + persisted.ConfigFile
		case cure == "":
			cure = "mend what fleet-etcd says, and look at the agent's log"
		}
		d.failure("fleet-agent", terminal.OneLine(cure), "%s: %s", p.Part, terminal.OneLine(what))
	}
	if isWell {
		d.ok("fleet-agent", "it takes part as %s", terminal.Clean(s.Host))
	}
	if engine != nil {
		d.checkFleetGroups(s, engine.FleetGroups())
	}
	d.checkFleetHosts(s)
}

// checkFleetGroups checks whether all hosts have the same settings of the groups.
func (d *doctor) checkFleetGroups(s *fleetstatus.Status, groups []policy.FleetGroup) {
	before := len(d.findings)
	for _, g := range s.Groups {
		name := terminal.Clean(g.Name)
		isSet := slices.ContainsFunc(groups, func(own policy.FleetGroup) bool { return own.Name == g.Name })
		switch {
		case len(g.Settings) > 1:
			d.warning("fleet-groups", "set it the same on all hosts in data.site.min_running.groups",
				"the hosts disagree about the group %s, and each decides by its own: %s", name, terminal.Clean(g.Disagreement()))
		case len(g.Settings) == 1 && !isSet:
			d.warning("fleet-groups", "set it on all hosts in data.site.min_running.groups",
				"this host does not have the group %s of %s: its members here do not count, and may be stopped", name, terminal.Clean(strings.Join(g.Settings[0].Hosts, ", ")))
		}
	}
	if len(d.findings) == before {
		d.ok("fleet-groups", "the hosts agree about %s", terminal.Counted(len(s.Groups), "group"))
	}
}

// checkFleetHosts checks whether the agents of all hosts run.
func (d *doctor) checkFleetHosts(s *fleetstatus.Status) {
	before := len(d.findings)
	for _, h := range s.Hosts {
		if !h.IsThere {
			d.warning("fleet-hosts", "start its agent; if it is gone for good, remove it: etcdctl del --prefix /stopguard/hosts/"+url.PathEscape(h.Name)+"/",
				"the lease of %s has ended: its members do not count", terminal.Clean(h.Name))
		}
	}
	if len(d.findings) == before {
		d.ok("fleet-hosts", "the agents of %s are there", terminal.Counted(len(s.Hosts), "host"))
	}
}
