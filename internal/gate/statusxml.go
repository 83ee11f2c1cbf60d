package gate

import (
	"fmt"
	"strings"

	"github.com/stopguard/stopguard/hookproto"
)

// statusXML returns the XML of a running domain from libvirtd's status file, which libvirtd
// rewrites with each change.
func statusXML(h hookproto.Host, uuid string) ([]byte, error) {
	guests, err := h.Guests()
	if err != nil {
		return nil, err
	}
	for _, g := range guests {
		if g.Err == nil && g.Process.Liveness == hookproto.Alive && strings.EqualFold(g.Process.Status.UUID, uuid) {
			return g.XML, nil
		}
	}
	return nil, fmt.Errorf("no domain runs that has the UUID %s", uuid)
}
