package protect

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stopguard/stopguard/internal/glob"
	"github.com/stopguard/stopguard/internal/terminal"
	"github.com/stopguard/stopguard/internal/tool/cli"
	"github.com/stopguard/stopguard/internal/tool/domains"
	"github.com/stopguard/stopguard/internal/virsh"
)

// maxNames bounds a file with names, in bytes.
const maxNames = 4 << 20

// each calls do for every domain that is named. If it fails for one of several domains, each prints
// the error and continues. If there is only one domain, it returns the error.
func each(c *cobra.Command, v virsh.Client, args []string, file string, dryRun bool, would string, do func(virsh.Target) error) error {
	targets, err := find(c, v, args, file)
	if err != nil {
		return err
	}
	failed := 0
	for _, t := range targets {
		if dryRun {
			fmt.Fprintf(c.OutOrStdout(), "%s %s\n", terminal.Clean(t.Name), would)
			continue
		}
		if err := do(t); err != nil && len(targets) == 1 {
			return err
		} else if err != nil {
			failed++
			cli.Warn(c, "%s: %v", t.Name, err)
		}
	}
	if failed > 0 {
		cli.Warn(c, "%d of %d domains failed", failed, len(targets))
		return &cli.ToldError{}
	}
	return nil
}

// find returns the domains of names and patterns, each once. If one is not found, it returns an
// error and no domains.
func find(c *cobra.Command, v virsh.Client, args []string, file string) ([]virsh.Target, error) {
	entries, err := readEntries(c.InOrStdin(), args, file)
	if err != nil {
		return nil, err
	}
	var all []string // names of the host's domains
	var targets []virsh.Target
	for _, entry := range entries {
		names := []string{entry}
		if glob.IsPattern(entry) {
			if err := glob.Check(entry); err != nil {
				return nil, cli.Usage("%q %v", entry, err)
			}
			if all == nil {
				if all, err = v.Names(c.Context()); err != nil {
					return nil, err
				}
			}
			names = slices.DeleteFunc(slices.Clone(all), func(name string) bool { return !glob.Match(entry, name) })
			if len(names) == 0 {
				return nil, fmt.Errorf("no domain is like %s; correct it, see virsh list --all --name", entry)
			}
		}
		for _, name := range names {
			t, err := v.Find(c.Context(), name)
			if err != nil {
				return nil, err
			}
			if !slices.ContainsFunc(targets, func(other virsh.Target) bool { return other.UUID == t.UUID }) {
				targets = append(targets, t)
			}
		}
	}
	return targets, nil
}

// readEntries returns the names and patterns of the command line and of a file.
func readEntries(stdin io.Reader, args []string, file string) ([]string, error) {
	entries := slices.Clone(args)
	if file != "" {
		var content []byte
		var err error
		if file == "-" {
			content, err = io.ReadAll(io.LimitReader(stdin, maxNames))
		} else {
			content, err = domains.ReadFile(file, maxNames)
		}
		if err != nil {
			return nil, fmt.Errorf("%w; name a file with a domain a line", err)
		}
		for lines := bufio.NewScanner(bytes.NewReader(content)); lines.Scan(); {
			if entry := strings.TrimSpace(lines.Text()); entry != "" && !strings.HasPrefix(entry, "#") {
				entries = append(entries, entry)
			}
		}
	}
	if len(entries) == 0 {
		return nil, cli.Usage("nothing is named; name one domain or more, or give --file")
	}
	return entries, nil
}

// completeMany completes the names of running domains for each argument.
func completeMany(c *cobra.Command, args []string, start string) ([]cobra.Completion, cobra.ShellCompDirective) {
	names, _ := domains.Complete(c, nil, start)
	return slices.DeleteFunc(names, func(name cobra.Completion) bool { return slices.Contains(args, name) }), cobra.ShellCompDirectiveNoFileComp
}
