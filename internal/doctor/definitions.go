package doctor

import (
	"errors"
	"io/fs"
	"os"

	"github.com/stopguard/stopguard/internal/definition"
	"github.com/stopguard/stopguard/internal/problem"
	"github.com/stopguard/stopguard/internal/terminal"
)

// readDefinitions reads libvirt's definitions, which other checks look at. It reports those that
// cannot be read: no check sees what is in them.
func (d *doctor) readDefinitions() {
	const id, what = "definitions", "whether it protects a domain, or leads past the gate, is not known: %s"
	all, err := definition.All(d.Root)
	var unread []error
	if err != nil {
		unread = append(unread, err)
	}
	for _, one := range all {
		if one.Err != nil {
			unread = append(unread, problem.Prefix(terminal.Clean(one.Name)+": ", one.Err, ""))
			continue
		}
		d.defined = append(d.defined, one)
	}
	switch {
	case len(unread) == 0:
		d.ok(id, "each can be read")
	case os.Geteuid() != 0 && errors.Is(unread[0], fs.ErrPermission):
		d.unknown(id, "run it as root", what, shown(unread))
	default:
		d.warning(id, cureOf(unread, "see stopguard check --all"), what, shown(unread))
	}
}
