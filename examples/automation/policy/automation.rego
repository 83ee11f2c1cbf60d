# METADATA
# title: automation
# description: |
#   No CI job and no agent stops or deletes a production domain without a ticket. The gate knows the systemd unit of the
#   process that asks.
package stopguard.rules.automation

veto contains message if {
	input.operation in {"stop", "delete"}
	stopguard.match(data.site.automation.production, input.domain.name, input.domain.uuid)
	some unit in data.site.automation.units
	glob.match(unit, [], input.caller.unit)
	message := sprintf("%s asks for it; a person must, or get it a ticket", [stopguard.quoted(input.caller.unit)])
}
