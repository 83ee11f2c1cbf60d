package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// hostFolders are the folders with root's files of libvirt and of stopguard.
var hostFolders = []string{"/etc/", "/proc/", "/run/", "/sys/", "/var/lib/", "/var/log/"}

// NeedsRoot returns a one-line error if the only cause of an error is that the user is not root.
// Either the user may not read or write a file of the host, or libvirt refuses the user. It returns
// nil for any other error.
func NeedsRoot(err error) error { return needsRoot(err, os.Geteuid()) }

func needsRoot(err error, uid int) error {
	if uid == 0 || !errors.Is(err, fs.ErrPermission) {
		return nil
	}
	if file, ok := errors.AsType[*fs.PathError](err); ok {
		path := strings.TrimPrefix(file.Path, HostRoot())
		if !slices.ContainsFunc(hostFolders, func(folder string) bool { return strings.HasPrefix(path, folder) }) {
			return nil
		}
		return fmt.Errorf("only root may do this (%s: %w); run it as root", file.Path, file.Err)
	}
	if refused, ok := errors.AsType[interface {
		error
		Refused() string
	}](err); ok {
		return fmt.Errorf("only root may do this (%s); run it as root", refused.Refused())
	}
	return nil
}
