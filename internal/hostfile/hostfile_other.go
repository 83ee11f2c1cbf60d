//go:build !linux

package hostfile

import (
	"errors"
	"io/fs"
)

// Elsewhere than on Linux there is no libvirt hook to read files for; what imports this package shall still build there, so
// that rules can be written and tested on any machine.

func (r Root) read(elements []string, _ int64) ([]byte, error) {
	return nil, failure(r.path(elements), "host files are read on Linux only", "run this on the host", errors.ErrUnsupported)
}

func (r Root) readDir(elements []string, _ Limits) (fs.FS, error) {
	return nil, failure(r.path(elements), "host files are read on Linux only", "run this on the host", errors.ErrUnsupported)
}

func (r Root) judge(elements []string) error {
	return failure(r.path(elements), "host files are read on Linux only", "run this on the host", errors.ErrUnsupported)
}

func (r Root) stamp([]string) Stamp { return Stamp{} }
