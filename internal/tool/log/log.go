package log

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stopguard/stopguard/internal/terminal"
	"github.com/stopguard/stopguard/internal/tool/cli"
	"github.com/stopguard/stopguard/internal/tool/domains"
	"github.com/stopguard/stopguard/policy/record"
)

var outcomes = []string{record.Allow, record.Veto, record.Moot, record.Fault, record.Escape}

// Command returns the command log.
func Command() *cobra.Command {
	var since, output string
	f := recordFilter{}
	follow := false
	c := &cobra.Command{
		Use:   "log",
		Short: "Show the record of decisions",
		Long: `Show the record of decisions, /var/log/stopguard/decisions.jsonl, and what was
set aside of it as decisions.jsonl.1.

outcomes are allow, veto, moot (nothing was left to protect), fault (no
decision could be made) and escape (a protected domain went down past the
guard).`,
		Example: `  stopguard log --since 24h --outcome escape
  stopguard log --follow -o json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case output != "text" && output != "json":
				return cli.Usage("-o %q is unknown; write text or json", output)
			case f.outcome != "" && !slices.Contains(outcomes, f.outcome):
				return cli.Usage("--outcome %q is unknown; write one of %s", f.outcome, strings.Join(outcomes, ", "))
			}
			if since != "" {
				var err error
				if f.since, err = cli.ParseSince(since, time.Now()); err != nil {
					return err
				}
			}
			l := logReader{filter: f, out: c.OutOrStdout(), json: output == "json", path: filepath.Join("/", cli.HostRoot(), record.File)}
			err := l.read(c.Context(), follow)
			if l.malformed > 0 {
				cli.Warn(c, "%d lines of %s are torn or no records, and were passed over", l.malformed, l.path)
			}
			return err
		},
	}
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what is recorded from now on")
	c.Flags().StringVar(&since, "since", "", "only since then: 2h, 2026-11-22 or an RFC 3339 time")
	c.Flags().StringVar(&f.outcome, "outcome", "", "only this outcome")
	c.Flags().StringVar(&f.domain, "domain", "", "only this domain, by name or UUID")
	cli.FreeText(c, "since")
	c.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	cli.CompleteFlag(c, "output", "text", "json")
	completions := map[string]cobra.CompletionFunc{
		"outcome": cobra.FixedCompletions(outcomes, cobra.ShellCompDirectiveNoFileComp),
		"domain": func(c *cobra.Command, _ []string, start string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return domains.Complete(c, nil, start)
		},
	}
	for name, complete := range completions {
		if err := c.RegisterFlagCompletionFunc(name, complete); err != nil {
			panic(err)
		}
	}
	return c
}

// A recordFilter selects the records to show. A zero field accepts all.
type recordFilter struct {
	since           time.Time
	outcome, domain string
}

func (f recordFilter) passes(e record.Event) bool {
	d := e.Result.Domain
	return !e.Timestamp.Before(f.since) &&
		(f.outcome == "" || e.Result.Outcome == f.outcome) &&
		(f.domain == "" || d.Name == f.domain || strings.EqualFold(d.UUID, f.domain))
}

// A logReader shows the records of a host.
type logReader struct {
	filter    recordFilter
	out       io.Writer
	json      bool
	path      string
	malformed int // lines that are not records
}

const (
	MaxRecord  = 64 << 20 // bytes of a line; a record holds the input of its decision
	followEach = 200 * time.Millisecond
)

func (l *logReader) read(ctx context.Context, follow bool) error {
	if err := l.readWhole(l.path + ".1"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return unreadableLog(err)
	}
	f, err := os.Open(l.path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !follow:
		return fmt.Errorf("%s is not there: nothing has been recorded on this host, or the record is elsewhere", l.path)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return unreadableLog(err)
	}
	for {
		if f != nil {
			if err = l.readOn(ctx, f, follow); err != nil || !follow {
				return unreadableLog(err)
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		// The file does not exist yet, or has been renamed and read to its end.
		if f, err = os.Open(l.path); err != nil {
			f = nil
			if !errors.Is(err, fs.ErrNotExist) {
				return unreadableLog(err)
			}
			pause(ctx)
		}
	}
}

func unreadableLog(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("the record cannot be read: %w; run as root", err)
}

func pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(followEach):
	}
}

func (l *logReader) readWhole(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return l.readOn(context.Background(), f, false)
}

// readOn reads the file to its end and closes it. If follow is set, it waits at the end until
// another file is at the path.
func (l *logReader) readOn(ctx context.Context, f *os.File, follow bool) error {
	defer f.Close()
	r := bufio.NewReaderSize(f, 64<<10)
	var line []byte
	replaced := false
	for ctx.Err() == nil {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) <= MaxRecord {
			line = append(line, part...)
		}
		switch {
		case err == nil:
			if err := l.line(line); err != nil {
				return err
			}
			line = line[:0]
		case errors.Is(err, bufio.ErrBufferFull):
		case !errors.Is(err, io.EOF):
			return err
		case !follow || replaced:
			return l.line(line)
		case l.isReplaced(f):
			replaced = true // the rest of the former file is still to be read
		default:
			pause(ctx)
		}
	}
	return nil
}

// isReplaced reports whether another file is at the path now, or this one was truncated.
func (l *logReader) isReplaced(f *os.File) bool {
	ours, err := f.Stat()
	if err != nil {
		return true
	}
	at, err := f.Seek(0, io.SeekCurrent)
	if err != nil || ours.Size() < at {
		return true
	}
	current, err := os.Stat(l.path)
	return err == nil && !os.SameFile(ours, current)
}

// line prints a line if it is a record that the filter selects.
func (l *logReader) line(line []byte) error {
	line = bytes.TrimSpace(line)
	if len(line) == 0 {
		return nil
	}
	var e record.Event
	if err := json.Unmarshal(line, &e); err != nil || e.Result.Outcome == "" {
		l.malformed++
		return nil
	}
	if !l.filter.passes(e) {
		return nil
	}
	if l.json {
		_, err := fmt.Fprintln(l.out, terminal.EscapeJSON(string(line)))
		return err
	}
	outcome := terminal.Cell(e.Result.Outcome, 6)
	_, err := fmt.Fprintf(l.out, "%s  %s  %s%s\n", e.Timestamp.UTC().Format(time.RFC3339),
		terminal.PaintFor(l.out).Outcome(e.Result.Outcome, outcome), terminal.Clean(e.Result.Domain.String()), terminal.Clean(recordText(e.Result)))
	return err
}

// recordText returns the request, the reasons and the details of a result for people.
func recordText(r record.Result) string {
	var b strings.Builder
	if q := r.Request; q != nil {
		fmt.Fprintf(&b, ": %s", q)
	}
	for _, reason := range r.Reasons {
		fmt.Fprintf(&b, ": %s (rule %s)", reason.Message, reason.Rule)
	}
	for _, reason := range r.Monitored {
		why := r.Unenforced
		if why == "" {
			why = "monitored"
		}
		fmt.Fprintf(&b, ": %s (rule %s, %s)", reason.Message, reason.Rule, why)
	}
	if t := r.Ticket; t != nil {
		fmt.Fprintf(&b, ": ticket %s of %s: %s", t.ID, t.Requester, t.Reason)
	}
	if r.Detail != "" {
		b.WriteString(": " + r.Detail)
	}
	return b.String()
}
