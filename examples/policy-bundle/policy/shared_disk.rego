# METADATA
# title: shared_disk
# description: |
#   A domain that may write to a disk together with others must leave their cluster before it is stopped. Such a disk is
#   marked shareable, or its source begins with one of data.site.shared_disk.prefixes.
package stopguard.rules.shared_disk

import data.stopguard.text

veto contains message if {
	input.operation == "stop"
	some disk in input.domain.disks
	not disk.read_only
	_is_shared(disk)
	message := sprintf(
		"shares disk %s at %s; take it out of its cluster first",
		[text.quoted(disk.target), text.quoted(disk.source)],
	)
}

_is_shared(disk) if disk.shareable

_is_shared(disk) if strings.any_prefix_match(disk.source, data.site.shared_disk.prefixes)
