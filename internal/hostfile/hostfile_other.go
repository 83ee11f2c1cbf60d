//go:build !linux

package hostfile

import (
	"errors"
	"io/fs"
)

// libvirt's hooks are for Linux only. With this file, packages that import this one build
// elsewhere, so that rules can be written and tested on any machine.

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
