package policy

import "slices"

// Rules returns the names of the loaded rules in Rego, sorted. Those in Go are [Engine.GoRules].
func (e *Engine) Rules() []string { return slices.Clone(e.rules) }

// Revision returns the [Decision.Revision] of the engine's decisions.
func (e *Engine) Revision() string { return e.revision }

// Monitored returns the entries of data.site.monitor, sorted: a rule or "*", with "/" and an
// operation behind it if it is for one alone. The reasons of these rules refuse nothing.
func (e *Engine) Monitored() []string { return e.settings.Monitored() }
