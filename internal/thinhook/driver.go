package thinhook

import (
	"bytes"
	"context"
	"time"

	"github.com/stopguard/stopguard/hookproto"
)

// patience bounds the wait for the XML of a domain that seems to be gone. libvirt has written the
// XML before it calls the hook.
const patience = 250 * time.Millisecond

// isQEMU reports whether a domain without a process is certain to belong to the QEMU driver, whose
// state folder shows the domain's end. That is so if its XML begins accordingly, or does not
// arrive. All other domains are for the full hook, which parses XML strictly.
func isQEMU(ctx context.Context, e *hookproto.Event) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	xml, err := e.XML(ctx)
	if err != nil {
		return ctx.Err() != nil
	}
	return isTyped(xml)
}

// isTyped reports whether a document begins with a plain <domain> whose type is qemu or kvm. It may
// miss such a document, but never accepts another. A type that a strict parser would not accept
// does not count.
func isTyped(xml []byte) bool {
	rest, ok := bytes.CutPrefix(bytes.TrimLeft(xml, blanks), []byte("<domain"))
	for ok {
		after := bytes.TrimLeft(rest, blanks)
		if len(after) == len(rest) {
			return false // the name continues, or a blank is missing before an attribute
		}
		name, value, found := bytes.Cut(after, []byte("="))
		if !found || len(value) == 0 || value[0] != '"' && value[0] != '\'' || bytes.ContainsAny(name, blanks+"<>'\"/&") {
			return false
		}
		var text []byte
		if text, rest, ok = bytes.Cut(value[1:], value[:1]); ok && string(name) == "type" {
			return string(text) == "qemu" || string(text) == "kvm"
		}
	}
	return false
}

const blanks = " \t\r\n"
