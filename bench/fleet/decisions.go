package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/stopguard/stopguard"
	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/hookproto/remote"
	"github.com/stopguard/stopguard/internal/fleet"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/hostpolicy"
)

const (
	noFleet   = "site:\n  min_running:\n    groups:\n      - {name: all, min: 1, members: [\"no-*\"]}\n"
	withFleet = "site:\n  min_running:\n    groups:\n      - {name: db-0, scope: fleet, min: 2, members: [\"db-0-*\"]}\n"

	mostInGroup   = 5 * time.Millisecond
	mostElsewhere = 1.1 // of what it costs without a fleet
)

// decisionRows measures whole decisions: of one domain, as the agent makes them for a hook.
func decisionRows(out io.Writer, n int) error {
	e, err := startEtcd()
	if err != nil {
		return err
	}
	defer e.close()
	groups := []fleet.GroupSettings{{Name: groupName(0), Min: groupMin, Hash: "0"}}
	f, err := fleet.Open(fleet.Config{
		Settings: e.settings("kvm-1"), Machine: "kvm-1", Log: func(string, ...any) {},
		Observe: func(context.Context) (fleet.Observation, error) {
			return fleet.Observation{Groups: groups, Domains: []fleet.Domain{domain(0), domain(1), domain(2), domain(3)}}, nil
		},
	})
	if err != nil {
		return err
	}
	defer f.Close()
	request := remote.FleetRequest{Groups: []string{groupName(0)}, WithinMS: 900}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		answer := f.Answer(context.Background(), request)
		if len(answer.Groups) == 1 && len(answer.Groups[0].Members) == 4 {
			break
		}
		if time.Now().After(end) {
			return fmt.Errorf("the members are not there: %+v", answer)
		}
	}
	ask := func(ctx context.Context, r remote.FleetRequest) (remote.FleetAnswer, error) {
		return f.Answer(ctx, r), nil
	}
	var alone, elsewhere, inGroup []time.Duration
	sides := []struct {
		data, name string
		into       *[]time.Duration
	}{{noFleet, "web-1", &alone}, {withFleet, "web-1", &elsewhere}, {withFleet, domain(0).Name, &inGroup}}
	var decides []func() error
	for _, s := range sides {
		decide, end, err := newDecider(s.data, s.name, ask)
		if err != nil {
			return err
		}
		defer end()
		decides = append(decides, decide)
	}
	failed := 0
	for range n + 5 { // in turns, so that other load affects all
		for i, s := range sides {
			began := time.Now()
			if err := decides[i](); err != nil {
				if failed++; failed > n/10 {
					return fmt.Errorf("%s: %w", s.name, err)
				}
				continue // the machine is busy
			}
			*s.into = append(*s.into, time.Since(began))
		}
	}
	verdict := func(missed bool) string {
		if missed {
			return "missed"
		}
		return ""
	}
	base, other, group := at(alone[5:], 50), at(elsewhere[5:], 50), at(inGroup[5:], 50)
	fmt.Fprintln(out, "a stop, allowed\tp50, ms\tp99, ms\ttarget\t")
	fmt.Fprintf(out, "no group of the fleet is set\t%s\t%s\t\t\n", ms2(base), ms2(at(alone[5:], 99)))
	fmt.Fprintf(out, "the domain is in no group of the fleet\t%s\t%s\t<= %.1f of that\t%s\n", ms2(other), ms2(at(elsewhere[5:], 99)), mostElsewhere, verdict(float64(other) > mostElsewhere*float64(base)))
	fmt.Fprintf(out, "the domain is in a group of the fleet\t%s\t%s\t<= %s ms\t%s\n", ms2(group), ms2(at(inGroup[5:], 99)), ms2(mostInGroup), verdict(group > mostInGroup))
	return nil
}

func ms2(d time.Duration) string {
	return fmt.Sprintf("%.2f", float64(d)/float64(time.Millisecond))
}

// newDecider makes a host that runs one domain, and returns a decision about its stop.
func newDecider(data, name string, ask func(context.Context, remote.FleetRequest) (remote.FleetAnswer, error)) (decide func() error, end func(), err error) {
	root, err := os.MkdirTemp("", "sgfleet")
	if err != nil {
		return nil, nil, err
	}
	process := exec.Command("sh", "-c", "read line", "qemu", "-uuid", uuid(0))
	stdin, err := process.StdinPipe()
	if err == nil {
		err = process.Start()
	}
	if err != nil {
		return nil, nil, err
	}
	end = func() { _ = stdin.Close(); _ = process.Wait(); _ = os.RemoveAll(root) }
	xml := fmt.Sprintf(`<domain type="kvm" id="7"><name>%s</name><uuid>%s</uuid></domain>`, name, uuid(0))
	for path, content := range map[string]string{
		"etc/stopguard/policy/data.yaml":    data,
		"run/libvirt/qemu/" + name + ".pid": fmt.Sprintln(process.Process.Pid),
		"run/libvirt/qemu/" + name + ".xml": fmt.Sprintf("<domstatus state='running' reason='booted' pid='%d'>%s</domstatus>", process.Process.Pid, xml),
	} {
		file := filepath.Join(root, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(content), 0o644)); err != nil {
			end()
			return nil, nil, err
		}
	}
	parsed, err := domainxml.Parse([]byte(xml))
	if err != nil {
		end()
		return nil, nil, err
	}
	config, err := hostpolicy.Load(root)
	if err != nil {
		end()
		return nil, nil, err
	}
	engine, err := policy.New(context.Background(), config)
	if err != nil {
		end()
		return nil, nil, err
	}
	asks := stopguard.Decide(stopguard.Config{Root: root, Fleet: ask, Engine: func(context.Context) (*policy.Engine, error) { return engine, nil }})
	return func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		return asks(ctx, stopguard.Request{Operation: policy.OperationStop, Domain: parsed})
	}, end, nil
}
