// Package relay stands between libvirt's clients and libvirtd.
//
// A [Gate] accepts clients, connects to libvirtd for each with the client's own identity, and
// passes everything on in both directions, in pieces, as it comes. A call that could end, pause,
// reset or move a domain, or remove its protection, is held in a goroutine of its own until the
// [DecideFunc] has answered. Everything else goes on meanwhile. The gate fetches the domain's XML
// on the client's own connection, so that libvirtd checks the client's rights, and returns the
// domain that the client means.
package relay
