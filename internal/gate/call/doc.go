// Package call reads the calls on libvirt's RPC socket: which operations they are, and on which
// domain.
//
// [Of] returns the treatment of a procedure's calls, such as whether they are held until they are
// decided. [Read] returns the domain, the operations, the flags and the command of a call. As in
// libvirtd, only the UUID identifies a domain: the name and the number that a caller sends with it
// are ignored.
package call
