# METADATA
# title: decision
# description: |
#   The one entrypoint. An object with a key for every rule that is loaded, and under it the set of that rule's reasons
#   for not stopping the domain: empty where the rule has nothing against it. A rule that is missing here was not asked,
#   which its reader takes for a fault.
package stopguard

# METADATA
# entrypoint: true
decision := {rule: reasons |
	some rule
	reasons := data.stopguard.rules[rule].veto
}
