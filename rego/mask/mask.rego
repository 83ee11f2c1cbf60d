# METADATA
# title: mask
# description: |
#   What a decision record leaves out, by OPA's convention for decision logs: what a guest's owner wrote, and commands to
#   a monitor or agent, which may hold passwords. A site that has a package system.log of its own replaces all of it.
package system.log

mask contains "/input/domain/metadata"

mask contains "/input/domain/title"

mask contains "/input/domain/description"

# It may quote them.
mask contains "/input/domain/metadata_error"

# The whole document holds all of them again.
mask contains "/input/xml"

mask contains "/input/request/command" if input.input.request.command != ""

mask contains sprintf("/input/host/domains/%d/metadata", [i]) if some i, _ in input.input.host.domains
