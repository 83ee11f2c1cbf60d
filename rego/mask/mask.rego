# METADATA
# title: mask
# description: |
#   What a decision record leaves out, by OPA's convention for decision logs: what a guest's owner wrote, and commands to
#   a monitor or agent, which may hold passwords. A site that has a package system.log of its own replaces all of it.
package system.log

# metadata_error may quote the metadata, and the whole document holds all of it again.
mask contains path if some path in [
	"/input/domain/metadata", "/input/domain/metadata_error", "/input/domain/title", "/input/domain/description", "/input/xml",
]

mask contains "/input/request/command" if input.input.request.command != ""

mask contains sprintf("/input/host/domains/%d/metadata", [i]) if some i, _ in input.input.host.domains
