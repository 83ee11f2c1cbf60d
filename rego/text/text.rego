# METADATA
# title: text
# description: Text in a reason, for a site's rules to import. The library's call stopguard.quoted itself.
package stopguard.text

# METADATA
# title: quoted
# description: Text that somebody else wrote, fit for a reason. In quotes if it could be taken for our words; cut to 200 bytes.
quoted(text) := stopguard.quoted(text)
