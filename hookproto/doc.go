// Package hookproto speaks libvirt's hook protocol for one question: may this
// domain be stopped?
//
// libvirt runs /etc/libvirt/hooks/qemu NAME stop begin - with the domain's XML on
// stdin; a non-zero exit aborts the stop, and stderr reaches whoever asked for it.
// [Main] and [Run] turn that into a call of a [Handler] and its answer into an
// exit code and at most one line. For every operation but stop they return 0, and
// but for release they do so before anything is read: a failing reconnect hook
// would kill a running guest.
//
// [Host] tells whether there is still a guest to protect. libvirt asks about dead
// domains too, and a veto there would wedge the domain for good.
//
// The package knows nothing of policy and imports the standard library only.
package hookproto
