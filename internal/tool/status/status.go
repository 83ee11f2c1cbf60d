package status

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/stopguard/stopguard/internal/host"
	"github.com/stopguard/stopguard/internal/terminal"
	"github.com/stopguard/stopguard/internal/tool/check"
	"github.com/stopguard/stopguard/internal/tool/cli"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/hold"
	"github.com/stopguard/stopguard/policy/hostpolicy"
	"github.com/stopguard/stopguard/policy/record"
	"github.com/stopguard/stopguard/policy/ticket"
)

// Command returns the command status.
func Command() *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:   "status",
		Short: "Show on one screen what guards this host, and what it did last",
		Long: `Show on one screen what guards this host: hook, gate and agent, libvirt and its
daemons, what is enforced and what is switched off, the policy, how many
domains are protected, open tickets and holds, and the last veto and escape.

It judges nothing and changes nothing: stopguard doctor says whether all of it
works. What cannot be known, as without root, is called unknown.`,
		Example: "  stopguard status\n  stopguard status -o json | jq .enforced",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if output != "text" && output != "json" {
				return cli.Usage("-o %q is unknown; write text or json", output)
			}
			h, err := host.This()
			if err != nil {
				return err
			}
			s := look(c, h)
			if output == "json" {
				return terminal.WriteJSON(c.OutOrStdout(), s)
			}
			return s.write(c.OutOrStdout())
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	cli.CompleteFlag(c, "output", "text", "json")
	return c
}

// The JSON of status.
type (
	status struct {
		Time time.Time `json:"time"`
		host.Enforcement
		SwitchedOff []string     `json:"switched_off"` // enforcement points: hook, gate
		Hook        hook         `json:"hook"`
		Gate        gate         `json:"gate"`
		Agent       agent        `json:"agent"`
		Libvirt     libvirt      `json:"libvirt"`
		Policy      policyState  `json:"policy"`
		Domains     check.Counts `json:"domains"`
		DomainsErr  string       `json:"domains_error,omitempty"` // the error for which they are unknown
		Tickets     int          `json:"open_tickets"`
		Holds       int          `json:"holds"` // domains that programs hold
		HoldsErr    string       `json:"holds_error,omitempty"`
		LastVeto    *event       `json:"last_veto"`   // null if the end of the record does not have one
		LastEscape  *event       `json:"last_escape"` // likewise
		RecordErr   string       `json:"record_error,omitempty"`
	}
	hook struct {
		Installed  bool        `json:"installed"`
		Executable bool        `json:"executable"`
		Path       string      `json:"path"`
		CallsStop  host.Answer `json:"calls_stop"` // whether this libvirt calls it for a stop
	}
	gate struct {
		Installed bool `json:"installed"`
		InFront   bool `json:"in_front"` // of libvirt's daemon
		Running   bool `json:"running"`
	}
	agent struct {
		Running bool `json:"running"`
	}
	libvirt struct {
		Library string   `json:"library,omitempty"`
		Version string   `json:"version,omitempty"`
		Daemons []daemon `json:"daemons"`
	}
	daemon struct {
		Name string `json:"name"`
		PID  int    `json:"pid"`
	}
	policyState struct {
		Revision string   `json:"revision"`
		Rules    []string `json:"rules"`
		Sources  []string `json:"sources"` // folders and bundles
		Monitor  []string `json:"monitor"` // rules that are reported and not enforced; "*" is all
		Error    string   `json:"error,omitempty"`
	}
	event struct {
		Time   time.Time     `json:"time"`
		Domain record.Domain `json:"domain"`
		Text   string        `json:"text"` // the first reason, or how the domain ended
	}
)

// look returns the status of a host.
func look(c *cobra.Command, h host.Host) status {
	processes := h.Processes()
	s := status{Time: time.Now().UTC().Truncate(time.Second), Enforcement: h.Enforcement(host.OperationStop), SwitchedOff: []string{}}
	s.Hook.Path = h.Path(host.HookFile)
	if info, err := os.Stat(s.Hook.Path); err == nil {
		s.Hook.Installed, s.Hook.Executable = true, info.Mode()&0o111 != 0
	}
	s.Hook.CallsStop, _, _ = h.CallsStop(processes)
	s.Gate = gate{Installed: h.HasGate(), InFront: h.InFront(), Running: processes.Names["stopguard-gate"]}
	s.Agent.Running = processes.Names["stopguard-agent"]
	if s.Hook.Installed && !s.Hook.Executable {
		s.SwitchedOff = append(s.SwitchedOff, host.PointHook)
	}
	if s.Gate.Installed && h.Exists(host.GateOff) {
		s.SwitchedOff = append(s.SwitchedOff, host.PointGate)
	}
	s.Libvirt.Daemons = []daemon{}
	for _, p := range processes.Daemons {
		s.Libvirt.Daemons = append(s.Libvirt.Daemons, daemon{p.Name, p.PID})
	}
	if file, replaced := h.LibraryFile(processes.Daemons); file != "" && !replaced {
		s.Libvirt.Library = file
		if library, err := host.ReadLibrary(file); err == nil {
			s.Libvirt.Version = library.Version
		}
	}
	s.Policy = lookAtPolicy(c)
	if counts, err := check.Count(c); err != nil {
		s.DomainsErr = err.Error()
	} else {
		s.Domains = counts
	}
	list, _ := ticket.Store{Root: cli.HostRoot()}.List(time.Now()) // doctor reports unreadable tickets
	for _, t := range list {
		if t.State == ticket.Open {
			s.Tickets++
		}
	}
	holds, err := hold.Store{Root: cli.HostRoot()}.All(time.Now())
	s.Holds = len(holds)
	if err != nil {
		s.HoldsErr = err.Error()
	}
	if s.LastVeto, s.LastEscape, err = lastEvents(h.Path(record.File)); err != nil {
		s.RecordErr = err.Error()
	}
	return s
}

func lookAtPolicy(c *cobra.Command) policyState {
	p := policyState{Rules: []string{}, Sources: []string{}, Monitor: []string{}}
	config, err := hostpolicy.Load(cli.HostRoot())
	if err != nil {
		p.Error = err.Error()
		return p
	}
	for _, site := range config.Sites {
		p.Sources = append(p.Sources, site.Name)
	}
	if settings, err := policy.ReadSettings(config.Sites); err == nil {
		names, _ := settings["monitor"].([]any)
		for _, name := range names {
			p.Monitor = append(p.Monitor, fmt.Sprint(name))
		}
	}
	engine, err := policy.New(c.Context(), config)
	if err != nil {
		p.Error = err.Error()
		return p
	}
	p.Revision, p.Rules = engine.Revision(), append(engine.Rules(), engine.GoRules()...)
	return p
}

// maxTail bounds the bytes at the end of the record that are read.
const maxTail = 4 << 20

// lastEvents returns the last veto and the last escape in the end of the record. A missing record
// is not an error.
func lastEvents(path string) (veto, escape *event, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	} else if err != nil {
		return nil, nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, nil, err
	}
	tail := make([]byte, min(info.Size(), maxTail))
	if n, err := f.ReadAt(tail, info.Size()-int64(len(tail))); err != nil && err != io.EOF {
		return nil, nil, err
	} else {
		tail = tail[:n]
	}
	for _, line := range slices.Backward(bytes.Split(tail, []byte("\n"))) {
		var e record.Event
		if json.Unmarshal(line, &e) != nil {
			continue
		}
		found := &event{Time: e.Timestamp.UTC(), Domain: e.Result.Domain, Text: e.Result.Detail}
		switch {
		case e.Result.Outcome == record.Veto && veto == nil:
			if len(e.Result.Reasons) > 0 {
				found.Text = e.Result.Reasons[0].Message + " (rule " + e.Result.Reasons[0].Rule + ")"
			}
			veto = found
		case e.Result.Outcome == record.Escape && escape == nil:
			escape = found
		}
		if veto != nil && escape != nil {
			break
		}
	}
	return veto, escape, nil
}

// write writes the status for people, one part a line.
func (s status) write(out io.Writer) error {
	var t terminal.Table
	enforced := "by " + strings.Join(s.By, " and ")
	switch {
	case !s.Known:
		enforced = "unknown: " + s.Why
	case !s.Enforced:
		enforced = "NO: " + s.Why
	}
	t.Row("enforced", enforced)
	if len(s.SwitchedOff) > 0 {
		t.Row("switched off", strings.Join(s.SwitchedOff, ", ")+"; on again: stopguard on").Colour(1, terminal.Red)
	}
	t.Row("hook", s.Hook.text())
	t.Row("gate", s.Gate.text())
	t.Row("agent", map[bool]string{true: "runs", false: "does not run"}[s.Agent.Running])
	t.Row("libvirt", s.Libvirt.text())
	t.Row("policy", s.Policy.text())
	if len(s.Policy.Sources) > 0 {
		t.Row("from", strings.Join(s.Policy.Sources, ", "))
	}
	if len(s.Policy.Monitor) > 0 {
		t.Row("only monitored", strings.Join(s.Policy.Monitor, ", ")).Colour(1, terminal.Yellow)
	}
	domains := fmt.Sprintf("%d running, %d protected, %d could not be decided", s.Domains.Running, s.Domains.Protected, s.Domains.Undecided)
	if s.DomainsErr != "" {
		domains = "unknown: " + s.DomainsErr
	}
	t.Row("domains", domains)
	t.Row("open tickets", fmt.Sprint(s.Tickets))
	if s.HoldsErr != "" {
		t.Row("domains on hold", "unknown: "+s.HoldsErr)
	} else {
		t.Row("domains on hold", fmt.Sprint(s.Holds))
	}
	if s.RecordErr != "" {
		t.Row("record", "unknown: "+s.RecordErr)
	} else {
		t.Row("last veto", s.LastVeto.text())
		t.Row("last escape", s.LastEscape.text())
	}
	return t.Write(out)
}

func (h hook) text() string {
	if !h.Installed {
		return "not installed"
	}
	calls := map[host.Answer]string{host.Yes: "this libvirt calls it for a stop", host.No: "this libvirt does not call it for a stop"}[h.CallsStop]
	return h.Path + ", " + cmp.Or(calls, "whether this libvirt calls it for a stop is unknown")
}

func (g gate) text() string {
	switch {
	case !g.Installed:
		return "not installed"
	case !g.InFront:
		return "installed, and not in front of libvirt's daemon"
	case !g.Running:
		return "in front of libvirt's daemon, and does not run; it starts with the first connection"
	}
	return "in front of libvirt's daemon, runs"
}

func (l libvirt) text() string {
	var daemons []string
	for _, d := range l.Daemons {
		daemons = append(daemons, fmt.Sprintf("%s (process %d)", d.Name, d.PID))
	}
	running := "no daemon runs"
	if len(daemons) > 0 {
		running = strings.Join(daemons, ", ")
	}
	return cmp.Or(l.Version, "version unknown") + ", " + running
}

func (p policyState) text() string {
	if p.Error != "" {
		return "BROKEN, every stop is refused: " + p.Error
	}
	revision := cmp.Or(p.Revision, "none of the site")
	return fmt.Sprintf("revision %.16s; rules %s", revision, strings.Join(p.Rules, ", "))
}

func (e *event) text() string {
	if e == nil {
		return "none on record"
	}
	return fmt.Sprintf("%s %s: %s", e.Time.Format(time.RFC3339), e.Domain, e.Text)
}
