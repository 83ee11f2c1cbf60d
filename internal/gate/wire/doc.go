// Package wire reads and writes what travels over libvirt's RPC socket: frames, the XDR in them,
// and errors.
//
// It knows libvirt's limits and nothing of what a call means. It does no I/O: a [Splitter] is fed
// with the bytes that were read, and tells where frames begin and end and which bytes stand for
// descriptors. Facts are those of libvirt 9.0.0, src/rpc/virnetprotocol.x and virnetmessage.c.
package wire
