// Package hookproto implements libvirt's hook protocol for one question: may this domain be
// stopped?
//
// libvirt runs /etc/libvirt/hooks/qemu NAME stop begin - with the domain's XML on stdin. A non-zero
// exit aborts the stop, and stderr reaches the client that requested it. [Main] and [Run] turn that
// into a call of a [Handler], and its answer into an exit code and at most one line. For every
// operation but stop they return 0. For all but stop and release they do so before anything is
// read: a failing reconnect hook would kill a running guest.
//
// [Host] reports whether there is still a guest to protect. libvirt runs the hook for dead domains
// too, and a veto there would wedge the domain for good.
//
// The package does not know the policy and imports the standard library only.
package hookproto
