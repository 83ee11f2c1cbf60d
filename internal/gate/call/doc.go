// Package call tells what a call on libvirt's RPC socket would do to a domain.
//
// [Of] looks a procedure up in a table: is it to be held until something is decided? [Read] reads
// its arguments: which domain it is about, what is to be asked, and the flags and commands in
// words. A domain is known by its UUID alone, as for libvirtd: the name and the number that a
// caller sends with it mean nothing.
package call
