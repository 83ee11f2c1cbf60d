package gate

import (
	"fmt"
	"strings"

	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/definition"
	"github.com/stopguard/stopguard/internal/gate/relay"
)

// statusXML returns the XML of a running domain from libvirtd's status file, which libvirtd
// rewrites with each change. The error is [relay.ErrNotRunning] only if no running domain can be
// the one.
func statusXML(h hookproto.Host, uuid string) ([]byte, error) {
	guests, err := h.Guests()
	if err != nil {
		return nil, err
	}
	for _, g := range guests {
		switch {
		case g.Err != nil || g.Process.Liveness != hookproto.Alive:
			err = fmt.Errorf("the domain may be %s, which cannot be read", g.Name)
		case strings.EqualFold(g.Process.Status.UUID, uuid):
			return g.XML, nil
		}
	}
	if err == nil {
		err = fmt.Errorf("%w: %s", relay.ErrNotRunning, uuid)
	}
	return nil, err
}

// definedXML returns the XML of a domain from libvirt's definition of it.
func definedXML(root, uuid string) ([]byte, error) {
	all, err := definition.All(root)
	for _, d := range all {
		if d.Err == nil && strings.EqualFold(d.Domain.UUID, uuid) {
			return d.XML, nil
		}
	}
	if err == nil {
		err = fmt.Errorf("%s has no definition of %s that can be read", definition.Folder, uuid)
	}
	return nil, err
}
