// Package hooktest is the contract of a libvirt hook as a test: it runs a hook through every
// operation that libvirt calls one for, the way libvirt does, and asserts that it does no harm.
//
// A hook that fails on reconnect kills a running guest, one that prints on migrate replaces
// the domain's XML, and one that hangs holds up the whole host. [Binary] is for a program in
// any language that keeps to the protocol of package hookproto, [Handler] for a
// [hookproto.Handler] within the test's own process.
//
// What a hook decides about a stop is its own affair. Asserted are the form of the answer, that
// what it refuses stays refused if less can be read or less is listened to, and that it decides at
// all. A domain that is dead must be let go, and any domain while its host shuts down: [Binary]
// sets STOPGUARD_ROOT to a host where that is so.
package hooktest
