package doctor

import (
	"fmt"
	"strings"

	"github.com/stopguard/stopguard/internal/host"
	"github.com/stopguard/stopguard/internal/terminal"
)

// checkHusks looks for the remains of failed incoming migrations.
func (d *doctor) checkHusks() {
	d.checkDomains("husks", "no failed migration has left a process behind", d.Husks(), host.Domain.HuskText)
}

// checkAutodestroy looks for protected domains that end with a client's connection, which the gate
// cannot prevent.
func (d *doctor) checkAutodestroy() {
	domains, err := d.Autodestroyed()
	if err != nil {
		d.unknown("autodestroy", "run it as root", "%s cannot be read: %v", d.Path(host.GateMetrics), err)
		return
	}
	d.checkDomains("autodestroy", "no protected domain ends with a client's connection", domains, host.Domain.AutodestroyText)
}

func (d *doctor) checkDomains(id, none string, domains []host.Domain, text func(host.Domain) (what, cure string)) {
	if len(domains) == 0 {
		d.ok(id, "%s", none)
		return
	}
	var texts []string
	for _, domain := range domains[:min(len(domains), maxShown)] {
		what, _ := text(domain)
		texts = append(texts, terminal.Clean(what))
	}
	_, cure := text(domains[0])
	d.warning(id, cure, "%s", joinShown(texts, len(domains)))
}

// joinShown joins the shown items and adds the number of the rest. of is the number of all items.
func joinShown(shown []string, of int) string {
	text := strings.Join(shown, "; ")
	if more := of - len(shown); more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return text
}
