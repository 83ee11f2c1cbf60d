// Package peer is about the process at the other end of a Unix socket: who it is, as the kernel
// says; on whose behalf it asks, as a daemon of libvirt's says (CONNECT_SET_IDENTITY); and how to
// connect to a socket as its user.
package peer
