// Package hooktest tests whether a libvirt hook keeps its contract. It runs the hook through every
// operation for which libvirt calls one, in the way libvirt does, and asserts that the hook does no
// harm.
//
// A hook that fails on reconnect kills a running guest, one that prints on migrate replaces the
// domain's XML, and one that hangs blocks the whole host. [Binary] tests a program in any language
// that implements the protocol of package hookproto. [Handler] tests a [hookproto.Handler] within
// the test's own process.
//
// The package does not assert which stops a hook refuses. It asserts the form of the answer and
// that the hook decides at all. A refused stop must stay refused if less of the XML can be read or
// stderr is not read. A stop of a dead domain must be allowed, and any stop while the host shuts
// down: [Binary] sets STOPGUARD_ROOT to such hosts.
package hooktest
