package protect

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stopguard/stopguard/internal/operation"
	"github.com/stopguard/stopguard/internal/terminal"
	"github.com/stopguard/stopguard/internal/tool/cli"
	"github.com/stopguard/stopguard/internal/tool/marks"
	"github.com/stopguard/stopguard/internal/virsh"
	"github.com/stopguard/stopguard/policy"
)

// Command returns the command protect.
func Command() *cobra.Command {
	var v virsh.Client
	var until, reason, owner, operations, file string
	var lasts time.Duration
	var dryRun bool
	c := &cobra.Command{
		Use:   "protect NAME... --until TIME|--for 90d --reason TEXT",
		Short: "Set a domain's protection mark",
		Long: `Set a domain's protection mark: until the time is over, a stop and a delete of
the domain are refused. A delete is to undefine it, to throw its saved state
away, or to destroy the data of its disks.

The mark is in the domain's metadata and goes with it to another host. It
takes the place of a mark that the domain carries already. In a clone, which
has another UUID, it is inert. For a name that begins with -, write -- before
it.

A pattern such as 'pg-*' is for every domain with a name like it, also one that
is off. --file has names and patterns, one a line; - is stdin. With --dry-run it
only says which domains it would mark.

With --operations it is for more: pause, reset, move to another host, and
modify, which is to rename the domain or define it anew, to detach a disk or to
take the mark away. If stop is among them, they are all: --operations stop is
for a stop alone. If it is not, they come on top of stop and delete. A hook is
only ever asked about a stop; for the others, requests must go through a gate
on libvirt's socket. There, a mark that is for modify is removed with a ticket
for that, or when it has lapsed.`,
		Example: `  stopguard protect pg-01 --until 2027-06-30 --reason 'billing primary'
  stopguard protect 'pg-*' web-01 --for 90d --reason 'audit' --dry-run
  stopguard protect pg-01 --until 2027-06-30 --reason 'audit' \
    --operations reset,modify`,
		RunE: func(c *cobra.Command, args []string) error {
			if (until == "") == (lasts == 0) {
				return cli.Usage("give either --until or --for")
			}
			if lasts < 0 {
				return cli.Usage("--for is negative; give a time in the future")
			} else if lasts > 0 {
				until = time.Now().Add(lasts).UTC().Truncate(time.Second).Format(time.RFC3339)
			}
			_, text, err := cli.ParseUntil("--until", until, time.Now())
			if err != nil {
				return err
			}
			if err := checkNote("--reason", reason); err != nil {
				return err
			}
			if owner != "" {
				if err := checkNote("--owner", owner); err != nil {
					return err
				}
			}
			named, against, err := cli.ParseOperations(operations)
			if err != nil {
				return err
			}
			return each(c, v, args, file, dryRun, "would be protected", func(t virsh.Target) error {
				return protect(c, v, t, virsh.Mark{Reason: reason, Owner: owner, Until: text, Domain: t.UUID, Operations: strings.Join(named, " ")}, against)
			})
		},
	}
	c.Flags().StringVar(&until, "until", "", "when it lapses: a day's end in UTC, or RFC 3339")
	c.Flags().StringVar(&reason, "reason", "", "why, for whoever is refused a stop")
	c.Flags().StringVar(&owner, "owner", "", "whom to ask")
	cli.OperationsFlag(c, &operations, "what it is against (default stop,delete)")
	cli.DurationVar(c, &lasts, "for", 0, "how long it holds from now, such as 90d or 12h")
	c.Flags().StringVar(&file, "file", "", "file with names and patterns, one a line; - is stdin")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "only say which domains it would be")
	cli.Required(c, "reason")
	cli.FreeText(c, "reason", "owner", "until", "for")
	v.ConnectFlag(c)
	c.ValidArgsFunction = completeMany
	return c
}

// protect sets the mark of a domain, and reads it back.
func protect(c *cobra.Command, v virsh.Client, t virsh.Target, m virsh.Mark, against []string) error {
	former, _ := v.Marks(c.Context(), t) // an unreadable mark is replaced, too
	if err := v.Set(c.Context(), t, m); err != nil {
		return err
	}
	if lost := lostOperations(former, against); len(lost) > 0 {
		cli.Warn(c, "the mark that this one replaces was for %s, too; give them with --operations to keep that", strings.Join(lost, ", "))
	}
	stored, err := v.Marks(c.Context(), t)
	if err != nil {
		return fmt.Errorf("the mark was set but cannot be read back: %w", err)
	}
	for _, where := range t.Where() {
		if stored[where] != m {
			return fmt.Errorf("the mark of %s was set and is not what virsh metadata %s gives; look at virsh dumpxml", t.Name, where)
		}
	}
	warnSaved(c, t)
	cli.WarnUnenforced(c, policy.OperationStop)
	_, err = fmt.Fprintf(c.OutOrStdout(), "%s is protected until %s: %s\nThe mark is %s.\n",
		terminal.Clean(t.Name), untilText(m.Until), terminal.Clean(m.Reason), t.WhereText())
	if err == nil && m.Operations != "" && len(against) > 1 {
		_, err = fmt.Fprintf(c.OutOrStdout(), "A gate refuses to %s it; a hook can refuse a stop only.\n", orList(against))
	}
	return err
}

// Unprotect returns the command unprotect.
func Unprotect() *cobra.Command {
	var v virsh.Client
	var file string
	var dryRun bool
	c := &cobra.Command{
		Use:   "unprotect NAME...",
		Short: "Remove a domain's protection mark",
		Long: `Remove a domain's protection mark. What else protects it, such as the
protected list or a rule, goes on protecting it.

To let a domain be stopped once and keep its mark, grant a ticket. For a name
that begins with -, write -- before it. Patterns, --file and --dry-run are as
for stopguard protect.`,
		Example: "  stopguard unprotect pg-01\n  stopguard unprotect 'pg-*' --dry-run",
		RunE: func(c *cobra.Command, args []string) error {
			return each(c, v, args, file, dryRun, "would lose its mark", func(t virsh.Target) error { return unprotect(c, v, t) })
		},
	}
	c.Flags().StringVar(&file, "file", "", "file with names and patterns, one a line; - is stdin")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "only say which domains it would be")
	v.ConnectFlag(c)
	c.ValidArgsFunction = completeMany
	return c
}

// unprotect removes the mark of a domain.
func unprotect(c *cobra.Command, v virsh.Client, t virsh.Target) error {
	carried, err := v.Marks(c.Context(), t)
	if err != nil {
		return err
	}
	if len(carried) == 0 {
		_, err := fmt.Fprintf(c.OutOrStdout(), "%s carries no mark.\n", terminal.Clean(t.Name))
		return err
	}
	_, live := carried["--live"]
	_, config := carried["--config"]
	if err := v.Remove(c.Context(), virsh.Target{Name: t.Name, UUID: t.UUID, Live: live, Config: config}); err != nil {
		return err
	}
	remaining, err := v.Marks(c.Context(), t)
	if err != nil {
		return fmt.Errorf("the mark was removed, but whether it is gone cannot be read: %w", err)
	}
	if len(remaining) > 0 {
		return fmt.Errorf("%s still carries a mark; run it again, or remove it with virsh edit", t.Name)
	}
	if err := marks.Forget(cli.HostRoot(), t.UUID); err != nil {
		cli.Warn(c, "the next check will report the mark as gone: %v", err)
	}
	warnSaved(c, t)
	mark := carried["--config"]
	if live {
		mark = carried["--live"]
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "%s is no longer protected by a mark. It was, until %s: %s\n",
		terminal.Clean(t.Name), orNothing(mark.Until, "further notice"), orNothing(mark.Reason, "no reason given"))
	return err
}

// lostOperations returns the operations of former marks that a new mark does not have.
func lostOperations(former map[string]virsh.Mark, against []string) []string {
	var lost []string
	for _, name := range policy.Operations() {
		isOf := func(m virsh.Mark) bool {
			named, _ := operation.Parse(m.Operations)
			return slices.Contains(operation.Covered(named), name)
		}
		if !slices.Contains(against, name) && slices.ContainsFunc(slices.Collect(maps.Values(former)), isOf) {
			lost = append(lost, name)
		}
	}
	return lost
}

// orList returns words as a choice, such as "stop, reset or move".
func orList(words []string) string {
	last := len(words) - 1
	if last == 0 {
		return words[0]
	}
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// warnSaved warns if a managed save will undo the change.
func warnSaved(c *cobra.Command, t virsh.Target) {
	if t.Saved {
		cli.Warn(c, "%s has a managed save, and will start from it with the mark that it had then, or none; run this again once it runs", terminal.Clean(t.Name))
	}
}

// untilText returns a mark's time for people. A date is the end of the day, which people could take
// for its beginning.
func untilText(text string) string {
	if !strings.Contains(text, "T") {
		return "the end of " + text + " in UTC"
	}
	return text
}

func orNothing(s, nothing string) string {
	if s == "" {
		return nothing
	}
	return terminal.Clean(s)
}

// maxNote bounds the text of a mark's attribute. A refusal would show only the beginning of a
// longer one.
const maxNote = 200

func checkNote(option, text string) error {
	switch {
	case strings.TrimSpace(text) == "":
		return cli.Usage("%s is empty; say what whoever is refused a stop should know", option)
	case len(text) > maxNote:
		return cli.Usage("%s is longer than %d bytes; make it shorter", option, maxNote)
	case terminal.Clean(text) != text:
		return cli.Usage("%s is not one line of printable text; leave out line breaks and control characters", option)
	}
	return nil
}
