// Package peer identifies the process at the other end of a Unix socket from the kernel. It also
// reads the client that a daemon of libvirt's names as the caller (CONNECT_SET_IDENTITY), and
// connects to a socket as that user.
package peer
