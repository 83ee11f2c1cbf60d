package policy

import "slices"

// Rules returns the names of the loaded rules in Rego, sorted. Those in Go are [Engine.GoRules].
func (e *Engine) Rules() []string { return slices.Clone(e.rules) }

// Revision returns what [Decision.Revision] will be.
func (e *Engine) Revision() string { return e.revision }
