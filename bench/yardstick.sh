#!/bin/bash
# The yardstick: what a host would run instead. A list of names guarded by a script, as in the
# example hook of libvirt's proposed stop operation: the operation is looked at, the list is
# stripped of comments and searched for the name, and a stop that is refused is logged to syslog and
# to a file and explained on stderr. It knows no globs, no UUIDs, no marks and no dead domains, and
# a list that cannot be read refuses nothing.
set -eu

guest=${1-} operation=${2-}
[[ $operation == stop ]] || exit 0

list=${YARDSTICK_LIST:-/etc/libvirt/protected-domains}
log=${YARDSTICK_LOG:-/var/log/libvirt/protected.log}
[[ -f $list ]] || exit 0

if sed -e 's/[[:space:]]*#.*$//' -e '/^[[:space:]]*$/d' "$list" | grep -qxF -e "$guest"; then
	logger -t protected-domains "a stop of $guest is refused" 2>/dev/null || true
	printf '%s a stop of %s is refused\n' "$(date '+%Y-%m-%dT%H:%M:%S')" "$guest" >>"$log"
	printf '%s is protected: its name is in %s\n' "$guest" "$list" >&2
	exit 1
fi
