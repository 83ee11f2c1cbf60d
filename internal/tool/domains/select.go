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

// Select returns the domains that arguments name: running domains by name or UUID, and files with
// XML, where "-" is stdin. An argument with a slash is a file; of others, a running domain comes
// first.
func Select(args []string, stdin io.Reader) []Subject {
	var guests []hookproto.Guest
	var err error
	if slices.ContainsFunc(args, func(arg string) bool { return !isFile(arg) }) {
		guests, err = Running()
	}
	var subjects []Subject
	for _, arg := range args {
		subjects = append(subjects, selected(arg, guests, err, stdin))
	}
	return subjects
}

func isFile(arg string) bool { return arg == "-" || strings.Contains(arg, "/") }

func selected(arg string, guests []hookproto.Guest, unlisted error, stdin io.Reader) Subject {
	if isFile(arg) {
		return OfFiles([]string{arg}, stdin)[0]
	}
	if g, ok := among(guests, arg); ok {
		return OfGuests([]hookproto.Guest{g})[0]
	}
	if _, err := os.Stat(arg); err == nil {
		return OfFiles([]string{arg}, stdin)[0]
	} else if !errors.Is(err, fs.ErrNotExist) {
		return Subject{Name: arg, Err: err}
	}
	if unlisted != nil {
		return Subject{Name: arg, Err: unlisted}
	}
	return Subject{Name: arg, Err: fmt.Errorf("no domain of this name runs on this host, and there is no such file; correct the name, or give the domain's XML: virsh dumpxml %s | stopguard check -", terminal.ShellWord(arg))}
}

// among returns the domain with that name, or otherwise UUID.
func among(guests []hookproto.Guest, nameOrUUID string) (hookproto.Guest, bool) {
	for _, g := range guests {
		if g.Name == nameOrUUID {
			return g, true
		}
	}
	for _, g := range guests {
		if g.Process.Status.UUID != "" && strings.EqualFold(g.Process.Status.UUID, nameOrUUID) {
			return g, true
		}
	}
	return hookproto.Guest{}, false
}

// CompleteAll completes the names of running domains for each argument, and files.
func CompleteAll(c *cobra.Command, args []string, start string) ([]cobra.Completion, cobra.ShellCompDirective) {
	names, _ := Complete(c, nil, start)
	names = slices.DeleteFunc(names, func(name cobra.Completion) bool { return slices.Contains(args, name) })
	return names, cobra.ShellCompDirectiveDefault
}
