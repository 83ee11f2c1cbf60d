# METADATA
# title: decision
# description: |
#   The one entrypoint. Below vetoes it has a key for every rule that is loaded, and under it the set of that rule's reasons
#   for not stopping the domain: empty where the rule has nothing against it. A rule that is missing there was not asked,
#   which its reader takes for a fault. Below notes it has what rules want to be on record though it refuses nothing.
package stopguard

# METADATA
# entrypoint: true
decision := {
	"vetoes": {rule: reasons | some rule; reasons := data.stopguard.rules[rule].veto},
	"notes": {rule: notes | some rule; notes := data.stopguard.rules[rule].note},
}
