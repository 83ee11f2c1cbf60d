package policy

import (
	"slices"
	"strings"

	"github.com/stopguard/stopguard/policy/internal/document"
	"github.com/stopguard/stopguard/policy/internal/library"
)

// An inputField is a part of the input that a caller of [Engine.Decide] may forget.
type inputField struct {
	path []string // as the error calls it
	read []string // the paths that are made from it, as rules read them; nil means path

	// messageOnly are the paths that the library's rules read for their message alone. Their
	// outcome is the same without them.
	messageOnly []string
}

// checkInput returns a [*MissingInputError] if a loaded rule reads a field that in does not have.
// Otherwise the rule would see an empty text, and would mostly have nothing against the operation.
func (e *Engine) checkInput(in Input) error {
	absent := in.absent()
	if !slices.ContainsFunc(absent, e.readsField) {
		return nil
	}
	var missing []MissingInput
	p, err := e.program()
	if err != nil {
		return err
	}
	for _, r := range p.rules {
		isLibrary := library.IsRule(r.name)
		if paths := pathsOf(absent, func(f inputField) bool { return f.readBy(r.reads(), isLibrary) }); paths != nil {
			missing = append(missing, MissingInput{r.name, paths})
		}
	}
	for _, name := range e.GoRules() {
		if paths := pathsOf(absent, inputField.readByGoRules); paths != nil {
			missing = append(missing, MissingInput{name, paths})
		}
	}
	if missing == nil {
		return nil
	}
	return &MissingInputError{Missing: missing, cure: "set it in the Input; if nothing is known of a state, set its Unknown"}
}

func (e *Engine) readsField(f inputField) bool {
	return f.readBy(e.reads, slices.Equal(e.rules, library.AlwaysOn)) || len(e.goRules) > 0 && f.readByGoRules()
}

func (f inputField) readBy(reads document.Reads, isLibrary bool) bool {
	if f.read == nil {
		return reads.Has(f.path...)
	}
	return slices.ContainsFunc(f.read, func(path string) bool {
		return !(isLibrary && slices.Contains(f.messageOnly, path)) && reads.Has(strings.Split(path, ".")...)
	})
}

// States returns every state that a domain may be in, as libvirt names them.
func States() []string { return slices.Clone(document.States) }

// checkStates refuses a state that libvirt does not have: no rule would know it.
func (in Input) checkStates() error {
	if err := document.CheckState("input.domain.state", in.State.State); err != nil {
		return err
	}
	for _, d := range in.Host.Domains {
		if err := document.CheckState("input.host.domains[].state", d.State); err != nil {
			return err
		}
	}
	return nil
}

// readByGoRules reports whether Go rules see the field. They read the running domains by
// Host.Running, which returns an error if the caller has not set them.
func (f inputField) readByGoRules() bool { return f.path[0] != "host" || f.path[1] != "domains" }

func pathsOf(fields []inputField, isRead func(inputField) bool) (paths []string) {
	for _, f := range fields {
		if isRead(f) {
			paths = append(paths, document.PathText(f.path))
		}
	}
	slices.Sort(paths)
	return paths
}

// The fields that a caller may forget.
var (
	timeField  = inputField{path: []string{"time"}}
	nameField  = inputField{path: []string{"domain", "name"}}
	uuidField  = inputField{path: []string{"domain", "uuid"}}
	stateField = inputField{
		path:        []string{"domain", "state"},
		read:        []string{"domain.state", "domain.reason", "domain.job", "domain.disks"}, // a disk has its job from the state
		messageOnly: []string{"domain.state", "domain.reason"},
	}
	hostNameField  = inputField{path: []string{"host", "name"}}
	domainsField   = inputField{path: []string{"host", "domains"}}
	hostStateField = inputField{
		path: []string{"host", "domains", "0", "state"}, // shown as host.domains[].state
		read: []string{"host.domains"},
	}
)

// absent returns the fields that are not set. An unknown caller or request is zero, which is not a
// mistake.
func (in Input) absent() []inputField {
	var fields []inputField
	add := func(isAbsent bool, f inputField) {
		if isAbsent {
			fields = append(fields, f)
		}
	}
	add(in.Time.IsZero(), timeField)
	add(in.Domain.Name == "", nameField)
	add(in.Domain.UUID == "", uuidField)
	add(in.State.State == "" && !in.State.Unknown, stateField)
	add(in.Host.Name == "", hostNameField)
	add(in.Host.Domains == nil, domainsField)
	add(slices.ContainsFunc(in.Host.Domains, func(d HostDomain) bool { return d.State == "" && !d.Unknown }), hostStateField)
	return fields
}
