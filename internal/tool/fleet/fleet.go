// Package fleet has the command fleet, which shows the running members of the fleet's groups and
// their hosts.
package fleet

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stopguard/stopguard/internal/fleetstatus"
	"github.com/stopguard/stopguard/internal/terminal"
	"github.com/stopguard/stopguard/internal/tool/cli"
)

// watchPace is the time between two tables with --watch.
const watchPace = 2 * time.Second

// Command returns the command fleet.
func Command() *cobra.Command {
	var output string
	var watch bool
	c := &cobra.Command{
		Use:   "fleet",
		Short: "Show the groups of the fleet",
		Long: `Show the groups of data.site.min_running with the scope fleet, as the agent of
this host knows them: how many members run and are needed, where they run, what
was allowed and is not over, and which hosts' leases have ended.

Exit codes: 0 all is well, 1 a group has too few members, hosts disagree about
its settings, a host's lease has ended, or something fails.`,
		Example: `  stopguard fleet --watch`,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if output != "table" && output != "json" {
				return cli.Usage("-o %s is not known; write table or json", output)
			}
			isWell := false
			for {
				s, err := read(c.Context())
				if err != nil {
					return err
				}
				isWell = isFine(s)
				if output == "json" {
					err = terminal.WriteJSON(c.OutOrStdout(), s)
				} else {
					_, err = io.WriteString(c.OutOrStdout(), table(s, time.Now()))
				}
				if err != nil {
					return err
				}
				if !watch {
					break
				}
				select {
				case <-c.Context().Done():
					return nil
				case <-time.After(watchPace):
				}
				if output == "table" {
					fmt.Fprintln(c.OutOrStdout())
				}
			}
			if !isWell {
				return &cli.ToldError{}
			}
			return nil
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	cli.CompleteFlag(c, "output", "table", "json")
	c.Flags().BoolVar(&watch, "watch", false, "show it anew every 2 s, until interrupted")
	return c
}

func read(ctx context.Context) (*fleetstatus.Status, error) {
	s, err := fleetstatus.Read(ctx, cli.HostRoot())
	if err == nil && s == nil {
		err = fmt.Errorf("the agent takes part in no fleet; set stopguard.fleet in /etc/stopguard/agent.yaml, see docs/fleet.md")
	}
	return s, err
}

func isFine(s *fleetstatus.Status) bool {
	for _, g := range s.Groups {
		if len(g.Settings) > 1 || g.Running() < g.Min() {
			return false
		}
	}
	for _, h := range s.Hosts {
		if !h.IsThere {
			return false
		}
	}
	return len(s.Problems) == 0
}

// table returns the status as text.
func table(s *fleetstatus.Status, now time.Time) string {
	var b strings.Builder
	if len(s.Groups) == 0 {
		b.WriteString("no host has a group of the fleet\n")
	} else {
		width := len("GROUP")
		for _, g := range s.Groups {
			width = max(width, terminal.TextWidth(terminal.Clean(g.Name)))
		}
		width = min(width, 40)
		line := func(group, need, running, reserved, members string) { // members are not cut off
			for i, n := range []int{width, 4, 7, 8} {
				b.WriteString(terminal.Cell([]string{group, need, running, reserved}[i], n) + "  ")
			}
			b.WriteString(members + "\n")
		}
		line("GROUP", "NEED", "RUNNING", "RESERVED", "MEMBERS")
		for _, g := range s.Groups {
			line(terminal.Clean(g.Name), need(g), fmt.Sprint(g.Running()), fmt.Sprint(len(g.Reservations)), members(g))
		}
	}
	for _, g := range s.Groups {
		for _, r := range g.Reservations {
			fmt.Fprintf(&b, "reserved in %s: %s of %s, %s, on %s%s\n", terminal.Clean(g.Name), r.Operation, terminal.Clean(r.Name), age(r.Since, now), terminal.Clean(r.Host), by(r))
		}
	}
	for _, g := range s.Groups {
		if len(g.Settings) > 1 {
			fmt.Fprintf(&b, "the hosts disagree about %s: %s\n", terminal.Clean(g.Name), terminal.Clean(g.Disagreement()))
		}
	}
	for _, h := range s.Hosts {
		if !h.IsThere {
			fmt.Fprintf(&b, "the lease of %s has ended: its members do not count\n", terminal.Clean(h.Name))
		}
	}
	for _, p := range s.Problems {
		fmt.Fprintf(&b, "%s: %s\n", terminal.Clean(p.Part), terminal.OneLine(p.Error))
	}
	return b.String()
}

func need(g fleetstatus.Group) string {
	if len(g.Settings) == 0 {
		return "?" // the settings of the members' host have just gone
	}
	return fmt.Sprint(g.Min())
}

func members(g fleetstatus.Group) string {
	var names []string
	for _, m := range g.Members {
		name := fmt.Sprintf("%s on %s", terminal.Clean(m.Name), terminal.Clean(m.Host))
		if m.Reserved {
			name += " (reserved)"
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

func by(r fleetstatus.Reservation) string {
	text := ""
	if r.Requester != "" {
		text += ", requested by " + terminal.Clean(r.Requester)
	}
	if r.Ticket != "" {
		text += ", with ticket " + terminal.Clean(r.Ticket)
	}
	return text
}

// age returns the time since a moment, assuming that the hosts' clocks agree.
func age(since string, now time.Time) string {
	at, err := time.Parse(time.RFC3339, since)
	if err != nil {
		return "at an unknown time"
	}
	return max(0, now.Sub(at)).Round(time.Second).String() + " ago"
}
