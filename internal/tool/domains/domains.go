package domains

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/terminal"
	"github.com/stopguard/stopguard/internal/tool/cli"
	"github.com/stopguard/stopguard/internal/uuid"
)

// Running returns the domains of this host with a live process, from libvirt's status files. With
// an error, those that were found.
func Running() ([]hookproto.Guest, error) {
	guests, err := hookproto.Host{Root: cli.HostRoot()}.Guests()
	if err != nil {
		return guests, fmt.Errorf("the running domains cannot be listed: %w; run as root, on a host with libvirt's QEMU driver", err)
	}
	return guests, nil
}

// Find returns the running domain with that name, or otherwise UUID.
func Find(nameOrUUID string) (hookproto.Guest, bool, error) {
	guests, err := Running()
	if g, ok := among(guests, nameOrUUID); ok {
		return g, true, err
	}
	return hookproto.Guest{}, false, err
}

// Identify returns the UUID and the displayed name of the domain with the given name or UUID. A
// UUID is never taken for a name: a domain that is off may have it, while another one is called
// like it.
func Identify(nameOrUUID string) (id, whom string, err error) {
	guest, ok, err := Find(nameOrUUID)
	isUUID := nameOrUUID != "" && strings.EqualFold(uuid.Canonical(nameOrUUID), nameOrUUID)
	switch {
	case isUUID && !(ok && strings.EqualFold(guest.Process.Status.UUID, nameOrUUID)):
		return nameOrUUID, nameOrUUID, nil
	case ok && guest.Process.Status.UUID != "":
		return guest.Process.Status.UUID, guest.Name, nil
	case ok:
		return "", "", fmt.Errorf("the UUID of %s cannot be read: %w; give the UUID, as of virsh domuuid", nameOrUUID, guest.Err)
	case err != nil:
		return "", "", fmt.Errorf("%w, or give the UUID, as of virsh domuuid", err)
	}
	return "", "", fmt.Errorf("no domain %s runs on this host; correct the name, or give the UUID, as of virsh domuuid", nameOrUUID)
}

// Complete completes the names of running domains.
func Complete(_ *cobra.Command, args []string, start string) ([]cobra.Completion, cobra.ShellCompDirective) {
	var names []cobra.Completion
	if len(args) == 0 {
		guests, _ := Running()
		for _, g := range guests {
			if strings.HasPrefix(g.Name, start) && isTypeable(g.Name) {
				names = append(names, g.Name)
			}
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// isTypeable reports whether a shell may complete a name: not one that is not printable, or that
// would be taken for an option.
func isTypeable(name string) bool {
	return terminal.Clean(name) == name && !strings.HasPrefix(name, "-")
}
