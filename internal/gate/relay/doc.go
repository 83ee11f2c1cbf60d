// Package relay stands between libvirt's clients and libvirtd.
//
// A [Gate] accepts clients, connects to libvirtd for each with the client's own identity, and
// passes everything on in both directions, in pieces, as it comes. A call that could end, pause,
// reset or move a domain, or take its protection away, is held, in a goroutine of its own, until
// the [DecideFunc] has answered; everything else goes on meanwhile. The domain's XML is asked for
// on the client's own connection, so that libvirtd gives what this client may see of the domain
// that this client means.
package relay
