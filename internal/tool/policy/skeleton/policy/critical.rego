# METADATA
# title: critical
# description: A domain whose name begins with a prefix of data.site.critical.prefixes must not be stopped.
package stopguard.rules.critical

veto contains message if {
	input.operation == "stop"
	some prefix in data.site.critical.prefixes
	startswith(input.domain.name, prefix)
	message := sprintf("is critical; ask %s first", [data.site.critical.contact])
}
