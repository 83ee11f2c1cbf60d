# METADATA
# title: match
# description: Whether a setting names a domain, for a site's rules to import. The library's call stopguard.match itself.
package stopguard.match

# METADATA
# title: one_of
# description: |
#   Whether an entry is the domain's name or its UUID, in any way of writing it, or a glob that its name matches. Fails, so
#   that the rule vetoes, if entries is not a list or set of such entries, or the name or the UUID is not one.
one_of(entries, name, uuid) := stopguard.match(entries, name, uuid)
