package sitetest

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"testing/fstest"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/tools/txtar"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/internal/operation"
	"github.com/stopguard/stopguard/internal/problem"
	"github.com/stopguard/stopguard/policy"
)

func (k *kit) testStoppable(engine *policy.Engine, file string) (r Result) {
	content, err := os.ReadFile(file)
	if err != nil {
		return failure("%v; make it readable", err)
	}
	domain, err := domainxml.Parse(content)
	if err != nil {
		return failure("%s: %v; correct it, or copy it anew with virsh dumpxml", file, err)
	}
	decision, err := engine.Decide(k.ctx, Input(domain, k.Time))
	if err != nil {
		return failure("%s: no decision: %v", file, err)
	}
	for _, reason := range decision.Reasons {
		r.Problems = append(r.Problems, fmt.Sprintf("%s: must be stoppable, but is vetoed by %s; narrow the rule, or take the domain out of the folder", file, reasonText(reason)))
	}
	if decision.Outcome != policy.Allow && len(decision.Reasons) == 0 {
		return failure("%s: must be stoppable, but the outcome is %s; correct the policy", file, decision.Outcome)
	}
	return r
}

// hostName is the name of the host if a case does not have one. A rule that reads the name sees
// another host's.
const hostName = "policytest"

// Input returns a request to stop a domain that runs alone on its host.
func Input(domain *domainxml.Domain, at time.Time) policy.Input {
	return policy.Input{
		Operation: policy.OperationStop,
		Time:      at,
		Domain:    domain,
		State:     policy.State{Unknown: true},
		Host:      policy.Host{Name: hostName, Domains: []policy.HostDomain{{Name: domain.Name, UUID: domain.UUID, State: "running", Metadata: domain.Metadata}}},
	}
}

// A wantedCase is a case as its file has it.
type wantedCase struct {
	file     string
	archive  *txtar.Archive
	settings *txtar.File
	list     []byte
	input    policy.Input
	want     string
	hasWant  bool
}

func (k *kit) testCase(engine *policy.Engine, file string) Result {
	c, err := k.readCase(file)
	if err != nil {
		return failure("%s: %v", file, err)
	}
	if c.settings != nil || c.list != nil {
		if engine, err = k.engineFor(c); err != nil {
			return failure("%v", err)
		}
	}
	decision, err := engine.Decide(k.ctx, c.input)
	if err != nil {
		return failure("%s: no decision: %v", file, err)
	}
	got := decisionText(decision)
	if c.hasWant && got == c.want {
		return Result{}
	}
	if k.Update {
		if err := c.rewrite(got); err != nil {
			return failure("%v; make it writable", err)
		}
		return Result{Notes: []string{file + ": its want is written anew"}}
	}
	if !c.hasWant {
		return failure("%s: says nothing of what it wants; %s", file, k.Cures.Update)
	}
	return failure("%s: is decided otherwise; %s\nwanted:\n%s\ndecided:\n%s", file, k.Cures.Update, indented(c.want), indented(got))
}

func indented(text string) string {
	return "\t" + strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\n\t")
}

// decisionText returns a decision in the form of a case's want.
func decisionText(d policy.Decision) string {
	var text strings.Builder
	fmt.Fprintln(&text, d.Outcome)
	for _, r := range d.Reasons {
		fmt.Fprintln(&text, reasonText(r))
	}
	for _, r := range d.Monitored {
		fmt.Fprintln(&text, "monitored", reasonText(r))
	}
	if d.Unenforced != "" {
		fmt.Fprintf(&text, "unenforced: %s\n", d.Unenforced)
	}
	return text.String()
}

// rewrite sets the file's want.
func (c *wantedCase) rewrite(want string) error {
	at := slices.IndexFunc(c.archive.Files, func(f txtar.File) bool { return f.Name == "want" })
	if at < 0 {
		at = len(c.archive.Files)
		c.archive.Files = append(c.archive.Files, txtar.File{Name: "want"})
	}
	c.archive.Files[at].Data = []byte(want)
	return os.WriteFile(c.file, txtar.Format(c.archive), 0o644)
}

// readCase reads a case from its file.
func (k *kit) readCase(file string) (*wantedCase, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%w; make it readable", err)
	}
	c := &wantedCase{file: file, archive: txtar.Parse(content)}
	if len(bytes.TrimSpace(c.archive.Comment)) == 0 {
		return nil, errors.New("does not say why it is there; begin it with a line of text")
	}
	parts := map[string][]byte{}
	for _, f := range c.archive.Files {
		if _, twice := parts[f.Name]; twice {
			return nil, fmt.Errorf("holds %s twice; remove one", f.Name)
		}
		parts[f.Name] = f.Data
	}
	xml, ok := parts["domain.xml"]
	if !ok {
		return nil, errors.New("has no domain.xml; add it, as virsh dumpxml prints it")
	}
	domain, err := domainxml.Parse(xml)
	if err != nil {
		return nil, fmt.Errorf("domain.xml: %w; correct it, or copy it anew with virsh dumpxml", err)
	}
	c.input = Input(domain, k.Time)
	delete(parts, "domain.xml")
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		if err := c.readPart(name, parts[name]); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// readPart reads one file of a case into it.
func (c *wantedCase) readPart(name string, data []byte) (err error) {
	text := strings.TrimSpace(string(data))
	switch name {
	case "want":
		c.want, c.hasWant = string(data), true
	case "settings.yaml", "settings.json":
		if c.settings != nil {
			return errors.New("holds settings twice; remove one")
		}
		c.settings = &txtar.File{Name: name, Data: data}
	case "list":
		c.list = data
	case "operation":
		c.input.Operation = text
		if !slices.Contains(policy.Operations(), operation.Expand(text)[0]) {
			return fmt.Errorf("operation: %q is none; it is one of %s", text, strings.Join(policy.Operations(), ", "))
		}
	case "time":
		if c.input.Time, err = time.Parse(time.RFC3339, text); err != nil {
			return fmt.Errorf("time: %w; write one like 2026-12-24T18:00:00Z", err)
		}
	case "request":
		var r caseRequest
		if err := readYAML(data, &r); err != nil {
			return fmt.Errorf("request: %w; it has procedure, flags, command and destination", err)
		}
		c.input.Request = policy.Request(r)
	case "caller":
		r := caseCaller{UID: policy.UnknownID, LoginUID: policy.UnknownID, GID: policy.UnknownID}
		if err := readYAML(data, &r); err != nil {
			return fmt.Errorf("caller: %w; it has uid, login_uid, user, gid, groups, pid, read_only, via, unit and executable", err)
		}
		caller := policy.Caller(r)
		c.input.Caller = &caller
	case "state":
		var s caseState
		if err := readYAML(data, &s); err != nil {
			return fmt.Errorf("state: %w; it has state, reason, job and disks", err)
		}
		c.input.State = policy.State{State: s.State, Unknown: s.State == "", Reason: s.Reason, Job: s.Job, DiskJobs: s.Disks}
		if s.State != "" {
			c.input.Host.Domains[0].State = s.State
		}
	case "host":
		var h caseHost
		if err := readYAML(data, &h); err != nil {
			return fmt.Errorf("host: %w; it has name and domains", err)
		}
		return h.addTo(&c.input.Host)
	case "fleet":
		var f caseFleet
		if err := readYAML(data, &f); err != nil {
			return fmt.Errorf("fleet: %w; it has groups", err)
		}
		c.input.Fleet = f.input()
	default:
		return fmt.Errorf("holds %s, which means nothing; it may hold domain.xml, want, settings.yaml, settings.json, time, state, list, host, fleet, operation, request and caller", name)
	}
	return nil
}

type caseState struct {
	State  string            `yaml:"state"`
	Reason string            `yaml:"reason"`
	Job    string            `yaml:"job"`
	Disks  map[string]string `yaml:"disks"`
}

type caseRequest struct {
	Procedure   string   `yaml:"procedure"`
	Flags       []string `yaml:"flags"`
	Command     string   `yaml:"command"`
	Destination string   `yaml:"destination"`
}

type caseCaller struct {
	UID      int      `yaml:"uid"`
	LoginUID int      `yaml:"login_uid"`
	User     string   `yaml:"user"`
	GID      int      `yaml:"gid"`
	Groups   []string `yaml:"groups"`
	PID      int      `yaml:"pid"`
	ReadOnly bool     `yaml:"read_only"`
	Via      string   `yaml:"via"`
	ViaPID   int      `yaml:"-"`

	Unit       string `yaml:"unit"`
	Executable string `yaml:"executable"`
}

type caseHost struct {
	Name    string       `yaml:"name"`
	Domains []caseDomain `yaml:"domains"`
}

// addTo sets the host's name, and adds its other domains.
func (h caseHost) addTo(host *policy.Host) error {
	host.Name = cmp.Or(h.Name, host.Name)
	for _, d := range h.Domains {
		other, err := d.parse()
		if err != nil {
			return fmt.Errorf("host: domain %q: %w; correct it", d.Name, err)
		}
		host.Domains = append(host.Domains, other)
	}
	return nil
}

type caseFleet struct {
	Groups []struct {
		Name    string       `yaml:"name"`
		Error   string       `yaml:"error"`
		Members []caseMember `yaml:"members"`
	} `yaml:"groups"`
}

type caseMember struct {
	Name     string `yaml:"name"`
	UUID     string `yaml:"uuid"`
	Host     string `yaml:"host"`
	Since    string `yaml:"since"`
	Reserved bool   `yaml:"reserved"`
}

func (f caseFleet) input() policy.Fleet {
	var fleet policy.Fleet
	for _, g := range f.Groups {
		count := policy.FleetCount{Name: g.Name, Error: g.Error}
		for _, m := range g.Members {
			count.Members = append(count.Members, policy.FleetMember(m))
		}
		fleet.Groups = append(fleet.Groups, count)
	}
	return fleet
}

type caseDomain struct {
	Name     string `yaml:"name"`
	UUID     string `yaml:"uuid"`
	State    string `yaml:"state"`
	Metadata string `yaml:"metadata"`
	Stopping bool   `yaml:"stopping"`
}

func (d caseDomain) parse() (policy.HostDomain, error) {
	if d.Name == "" || d.UUID == "" {
		return policy.HostDomain{}, errors.New("it must have a name and a uuid")
	}
	if d.State == "" {
		d.State = "running"
	}
	other := policy.HostDomain{Name: d.Name, UUID: d.UUID, State: d.State, Stopping: d.Stopping}
	if d.Metadata == "" {
		return other, nil
	}
	parsed, err := domainxml.Parse([]byte("<domain type='kvm'><name>x</name><uuid>00000000-0000-4000-8000-000000000000</uuid><metadata>" + d.Metadata + "</metadata></domain>"))
	if err == nil {
		err = parsed.MetadataErr
	}
	if err != nil {
		return other, fmt.Errorf("metadata: %w", err)
	}
	other.Metadata = parsed.Metadata
	return other, nil
}

// readYAML reads one document. An unknown field is an error.
func readYAML(content []byte, into any) error {
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	decoder.KnownFields(true)
	if err := decoder.Decode(into); err != nil && !errors.Is(err, io.EOF) {
		return errors.New(problem.OneLine(err.Error()))
	}
	return nil
}

// engineFor returns an engine of the policy with the case's own settings and list.
func (k *kit) engineFor(c *wantedCase) (*policy.Engine, error) {
	config := policy.Config{List: c.list, ListName: c.file + ": list"}
	files := maps.Clone(k.files)
	if c.settings != nil {
		for name := range files {
			if base := path.Base(name); base == "data.yaml" || base == "data.json" {
				delete(files, name)
			}
		}
		name := "site/data" + path.Ext(c.settings.Name) // a data file in the folder site sets data.site
		config.Sites = append(config.Sites, policy.Site{FS: fstest.MapFS{name: &fstest.MapFile{Data: c.settings.Data}}, Name: c.file})
	}
	config.Sites = append(config.Sites, policy.Site{FS: files, Name: k.Policy})
	return policy.New(k.ctx, config)
}
