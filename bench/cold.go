package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Cold rows run the installed hook as libvirt does: a process for each call, with four arguments
// and the domain's XML, here a captured one of 9 KiB, through a pipe.

const (
	allowed = 0
	vetoed  = 1
)

func coldRows(s *stage) []row {
	few, many := names(100), names(100_000)
	plain, marked := stop(s.unmarked), stop(s.marked)
	return []row{
		{"cold hook, not a stop", 1.0, s.cold(few, call{op: "started", xml: s.unmarked}, call{op: "started", xml: s.unmarked})},
		{"cold hook, stop, moot", 1.0, s.cold(few, call{op: "stop", xml: s.ended, dead: true}, plain)},
		{"cold hook, stop, allowed", 1.8, s.cold(few, plain, plain)},
		{"cold hook, stop, vetoed by the list", 1.2, s.cold(append(few, guest), plain.exits(vetoed), plain.exits(vetoed))},
		{"cold hook, stop, vetoed by a mark", 1.4, s.cold(append(few, guest), marked.exits(vetoed), plain.exits(vetoed))},
		{"cold hook, stop, allowed, a site rule", 3.0, s.withSite(s.cold(few, plain, plain))},
		{"cold hook, stop, allowed, 100,000 names", 1.0, s.cold(many, plain, plain)},
		{"cold hook, stop, vetoed, 100,000 names", 1.0, s.cold(append(many, guest), plain.exits(vetoed), plain.exits(vetoed))},
		{"cold hook, memory, of 30 MiB", 1.0, s.memory(append(few, guest), marked.exits(vetoed), 30<<20)},
	}
}

// names makes a protected list of as many names, none of them the domain's.
func names(n int) []string {
	list := []string{"# Domains that must not be stopped."}
	for i := range n {
		list = append(list, "db-"+strconv.Itoa(i))
	}
	return list
}

// A call is one call of a hook and its wanted result.
type call struct {
	op   string
	xml  []byte
	dead bool // the domain has no process, and is called ended
	code int
}

func stop(xml []byte) call { return call{op: "stop", xml: xml} }

func (c call) exits(code int) call { c.code = code; return c }

// cold measures calls of the hook and of the yardstick, with the same list.
func (s *stage) cold(list []string, ours, theirs call) func(int) (cost, cost, error) {
	return func(n int) (cost, cost, error) {
		if err := s.set(list); err != nil {
			return cost{}, cost{}, err
		}
		return interleaved(n,
			func() (cost, error) { return s.run(ours, s.hook) },
			func() (cost, error) { return s.run(theirs, "bench/yardstick.sh") },
		)
	}
}

// siteRule is a rule that a site may have. It reads devices, and a setting.
const siteRule = `package stopguard.rules.passthrough

veto contains message if {
	input.operation == "stop"
	some device in input.domain.hostdevs
	not device.source in data.site.passthrough.movable
	message := sprintf("holds the host's device %s; ask in #hardware before stopping it", [device.source])
}
`

// withSite measures where the site has a rule.
func (s *stage) withSite(measure func(int) (cost, cost, error)) func(int) (cost, cost, error) {
	return func(n int) (cost, cost, error) {
		const folder = "/etc/stopguard/policy"
		defer func() { _ = os.RemoveAll(s.path(folder)) }()
		if err := errors.Join(
			s.put(folder+"/passthrough.rego", siteRule),
			s.put(folder+"/data.json", `{"site": {"passthrough": {"movable": ["0000:3b:00.0"]}}}`),
		); err != nil {
			return cost{}, cost{}, err
		}
		return measure(n)
	}
}

// memory measures the most that the hook's processes hold.
func (s *stage) memory(list []string, c call, budget int64) func(int) (cost, cost, error) {
	return func(n int) (cost, cost, error) {
		if err := s.set(list); err != nil {
			return cost{}, cost{}, err
		}
		return interleaved(n,
			func() (cost, error) {
				var out bytes.Buffer
				cmd := s.command(c, s.maxrss, s.hook)
				cmd.Stdout = &out
				if err := finish(cmd, c.code); err != nil {
					return cost{}, err
				}
				n, err := strconv.ParseInt(strings.TrimSpace(out.String()), 10, 64)
				return cost{bytes: n}, err
			},
			func() (cost, error) { return cost{bytes: budget}, nil },
		)
	}
}

// set writes the list.
func (s *stage) set(list []string) error {
	// The name that is looked for stands in the middle: neither side finds it at once.
	half := len(list) / 2
	sorted := append(append(append([]string{}, list[:half]...), list[len(list)-1]), list[half:len(list)-1]...)
	return s.put("/etc/libvirt/protected-domains", strings.Join(sorted, "\n")+"\n")
}

func (s *stage) command(c call, program ...string) *exec.Cmd {
	name := guest
	if c.dead {
		name = ended
	}
	cmd := exec.Command(program[0], append(program[1:], name, c.op, "begin", "-")...)
	cmd.Env = []string{
		"LC_ALL=C", "PATH=" + os.Getenv("PATH"), "HOME=/root", "STOPGUARD_ROOT=" + s.root,
		"YARDSTICK_LIST=" + s.path("/etc/libvirt/protected-domains"), "YARDSTICK_LOG=" + filepath.Join(s.root, "yardstick.log"),
	}
	cmd.Stdin = bytes.NewReader(c.xml)
	return cmd
}

func (s *stage) run(c call, program ...string) (cost, error) {
	cmd := s.command(c, program...)
	began := time.Now()
	if err := finish(cmd, c.code); err != nil {
		return cost{}, err
	}
	return cost{wall: time.Since(began), cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}, nil
}

// finish runs a command that must exit with code, and must write a text if that is not 0: a fast
// fault is not a valid measurement.
func finish(cmd *exec.Cmd, code int) error {
	var says strings.Builder
	cmd.Stderr = &says
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) && !errors.Is(err, syscall.EPIPE) {
		return err
	}
	if got := cmd.ProcessState.ExitCode(); got != code || (says.Len() > 0) != (code != allowed) {
		return fmt.Errorf("%s: exit %d, want %d; it says %q", cmd, got, code, says.String())
	}
	return nil
}
