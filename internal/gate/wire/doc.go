// Package wire reads and writes libvirt's RPC protocol: frames, the XDR in them, and errors.
//
// It knows libvirt's limits, and not the meaning of a call. It does no I/O: a [Splitter] takes the
// bytes that were read, and returns the pieces of frames and the bytes that stand for descriptors.
// Facts are those of libvirt 9.0.0, src/rpc/virnetprotocol.x and virnetmessage.c.
package wire
