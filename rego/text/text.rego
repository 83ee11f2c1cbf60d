# METADATA
# title: text
# description: Text in a reason, for a site's rules to import. The library's call stopguard.quoted itself.
package stopguard.text

# METADATA
# title: quoted
# description: |
#   Text that somebody else wrote, such as a domain's owner, made fit for a reason: as it is where it cannot be taken for
#   our own words, else in quotes; cut to 200 bytes.
quoted(text) := stopguard.quoted(text)
