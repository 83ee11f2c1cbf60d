// Package protection has the names of protection marks, with which domains protect themselves; see the rule
// protection_mark.
package protection

// Namespace is the namespace of a mark in a domain's metadata.
const Namespace = "urn:stopguard:protection:1"

// MarksFile is where stopguard check remembers the marks that it saw. Whoever may write a domain's metadata may remove its
// mark, and only this tells.
const MarksFile = "/var/lib/stopguard/marks.json"
