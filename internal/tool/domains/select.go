package domains

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/terminal"
)

// Select returns the domains that arguments name: running domains by name or UUID, with all also
// those that are off, and files with XML, where "-" is stdin. An argument with a slash is a file;
// of others, a running domain comes first, then one that is off.
func Select(args []string, all bool, stdin io.Reader) []Subject {
	var guests []hookproto.Guest
	var others []Subject // that are off
	var err error
	if slices.ContainsFunc(args, func(arg string) bool { return !isFile(arg) }) {
		if guests, err = Running(); all && err == nil {
			others, err = off()
		}
	}
	var subjects []Subject
	for _, arg := range args {
		subjects = append(subjects, selected(arg, guests, others, all, err, stdin))
	}
	return subjects
}

func isFile(arg string) bool { return arg == "-" || strings.Contains(arg, "/") }

func selected(arg string, guests []hookproto.Guest, others []Subject, all bool, unlisted error, stdin io.Reader) Subject {
	if isFile(arg) {
		return OfFiles([]string{arg}, stdin)[0]
	}
	g, isRunning := among(guests, arg)
	isUUID := isRunning && strings.EqualFold(g.Process.Status.UUID, arg)
	if i := slices.IndexFunc(others, func(s Subject) bool { return s.UUID != "" && strings.EqualFold(s.UUID, arg) }); i >= 0 && !isUUID {
		return others[i]
	}
	if isRunning {
		return OfGuests([]hookproto.Guest{g})[0]
	}
	if i := slices.IndexFunc(others, func(s Subject) bool { return s.Name == arg }); i >= 0 {
		return others[i]
	}
	if _, err := os.Stat(arg); err == nil {
		return OfFiles([]string{arg}, stdin)[0]
	} else if !errors.Is(err, fs.ErrNotExist) {
		return Subject{Name: arg, Err: err}
	}
	if unlisted != nil {
		return Subject{Name: arg, Err: unlisted}
	}
	if all {
		return Subject{Name: arg, Err: errors.New("no domain of this name or UUID is on this host, and there is no such file; correct the name, see virsh list --all")}
	}
	return Subject{Name: arg, Err: fmt.Errorf("no domain of this name runs on this host, and there is no such file; correct the name, or give the domain's XML: virsh dumpxml %s | stopguard check -", terminal.ShellWord(arg))}
}

// among returns the domain with that UUID, or otherwise name. As for virsh, the UUID comes first:
// another domain may be called like it.
func among(guests []hookproto.Guest, nameOrUUID string) (hookproto.Guest, bool) {
	for _, g := range guests {
		if g.Process.Status.UUID != "" && strings.EqualFold(g.Process.Status.UUID, nameOrUUID) {
			return g, true
		}
	}
	for _, g := range guests {
		if g.Name == nameOrUUID {
			return g, true
		}
	}
	return hookproto.Guest{}, false
}

// CompleteOff adds to completions the names of domains that are off.
func CompleteOff(names []cobra.Completion, args []string, start string) []cobra.Completion {
	others, _ := off()
	for _, s := range others {
		if isTypeable(s.Name) && strings.HasPrefix(s.Name, start) && !slices.Contains(args, s.Name) {
			names = append(names, s.Name)
		}
	}
	return names
}

// CompleteAll completes the names of running domains for each argument, and files.
func CompleteAll(c *cobra.Command, args []string, start string) ([]cobra.Completion, cobra.ShellCompDirective) {
	names, _ := Complete(c, nil, start)
	names = slices.DeleteFunc(names, func(name cobra.Completion) bool { return slices.Contains(args, name) })
	return names, cobra.ShellCompDirectiveDefault
}
