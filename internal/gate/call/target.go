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
	if !slices.Contains(c.Operations, Modify) { // a call that is Modify already is so even if it keeps the marks
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

// The following functions find the target in a call's arguments.

func setSavedXML(a arguments, c *Call)      { c.setTarget(a.strings[1], "", "") }
func setSavedXMLParam(a arguments, c *Call) { c.setTarget(a.params["dxml"], "", "") }

// setBeginTarget is for the first call of a migration. Only the next call names the other host.
func setBeginTarget(a arguments, c *Call) { c.setTarget(a.strings[0], "", a.strings[1]) }

// setPerformTarget also sets the destination: the other daemon's URI, or else the address for the
// guest's memory.
func setPerformTarget(a arguments, c *Call) {
	c.Destination = cmp.Or(a.strings[1], a.strings[2])
	c.setTarget(a.strings[0], "", a.strings[3])
}

// setPerformTargetV1 is for the first protocol of migration, which did not have XML.
func setPerformTargetV1(a arguments, c *Call) {
	c.Destination = a.strings[0]
	c.setTarget("", "", a.strings[1])
}

// setParamsTarget reads the destination and the target from typed parameters.
func setParamsTarget(a arguments, c *Call) {
	c.Destination = a.params["migrate_uri"]
	if len(a.strings) > 0 {
		c.Destination = cmp.Or(a.strings[0], c.Destination)
	}
	c.setTarget(a.params["destination_xml"], a.params["persistent_xml"], a.params["destination_name"])
}
