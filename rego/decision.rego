# METADATA
# title: decision
# description: |
#   The one entrypoint. vetoes has a set of reasons for each rule that is loaded, empty if the rule has none; the engine
#   takes a missing rule for a fault. notes has what rules put on record without refusing.
package stopguard

# METADATA
# entrypoint: true
decision := {
	"vetoes": {rule: reasons | some rule; reasons := data.stopguard.rules[rule].veto},
	"notes": {rule: notes | some rule; notes := data.stopguard.rules[rule].note},
}
