package call

import (
	"cmp"
	"slices"

	"github.com/stopguard/stopguard/domainxml"
)

// setTarget sets the domain that a migration or a save makes: the XML of this run, the XML of later
// ones, and the name; "" for no change. A rule may depend on any of them.
func (c *Call) setTarget(now, later, name string) {
	if now == "" && later == "" && name == "" {
		return
	}
	c.XML, c.PersistentXML, c.NewName = now, later, name
	if !slices.Contains(c.Operations, Modify) { // else it modifies whatever is kept
		c.IfMarkRemoved = true
		c.Operations = append(slices.Clone(c.Operations), Modify)
	}
}

// Keeps reports whether the domain that the XML describes keeps its name and its marks through the
// call. It reports false if that is not certain.
func (c Call) Keeps(before []byte) bool {
	domain, err := domainxml.Parse(before)
	if err != nil || c.NewName != "" && c.NewName != domain.Name {
		return false
	}
	for _, after := range []string{c.XML, c.PersistentXML} {
		if after == "" {
			continue
		}
		new, err := domainxml.Parse([]byte(after))
		if err != nil || new.Name != domain.Name || !KeepsMarks(before, []byte(after)) {
			return false
		}
	}
	return true
}

// The functions below find that domain in a call's arguments.

func savedAs(a arguments, c *Call)       { c.setTarget(a.strings[1], "", "") }
func savedAsParams(a arguments, c *Call) { c.setTarget(a.params["dxml"], "", "") }

// begun is for the first call of a migration that names the other host in the next one only.
func begun(a arguments, c *Call) { c.setTarget(a.strings[0], "", a.strings[1]) }

// performed finds the other daemon's URI, or where the guest's memory goes.
func performed(a arguments, c *Call) {
	c.Destination = cmp.Or(a.strings[1], a.strings[2])
	c.setTarget(a.strings[0], "", a.strings[3])
}

// performedFirst is for the first protocol of migration, which had no XML.
func performedFirst(a arguments, c *Call) {
	c.Destination = a.strings[0]
	c.setTarget("", "", a.strings[1])
}

// byParams finds the same among parameters.
func byParams(a arguments, c *Call) {
	c.Destination = a.params["migrate_uri"]
	if len(a.strings) > 0 {
		c.Destination = cmp.Or(a.strings[0], c.Destination)
	}
	c.setTarget(a.params["destination_xml"], a.params["persistent_xml"], a.params["destination_name"])
}
