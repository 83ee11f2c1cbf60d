package call

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/stopguard/stopguard/hookproto"
)

// checkName refuses a call of CONNECT_OPEN whose name would make libvirtd connect to another
// daemon.
//
// libvirtd opens the name with its own rights. If none of its own drivers takes the name, its
// remote driver does, as root. That would lead past the gate, or to libvirtd itself, which would
// wait for its own answer for ever. As of libvirt 9.0.0 and 11.3.0 (virConnectOpenInternal,
// remoteConnectOpen) the remote driver takes a name with a transport, a server or the parameter
// "socket" in it. A client's library removes these before it sends the name.
func checkName(a arguments) error {
	name := a.strings[0]
	if isOwnName(name) {
		return nil
	}
	return &hookproto.Veto{Reason: fmt.Sprintf("libvirtd would open the name %.200q by another daemon, past the gate; connect with %s", name, ownName(name))}
}

// scheme matches the scheme of a URI as libvirt reads it, in lower case like the names of its
// drivers.
var scheme = regexp.MustCompile(`\A[a-z][a-z0-9.-]*:`)

// remoteHypervisors are the drivers that connect to another host themselves, in their own protocol.
// A libvirt that is built without one of them returns an error, and does not try its remote driver.
var remoteHypervisors = []string{"esx", "gsx", "vpx", "hyperv"}

// isOwnName reports whether one of libvirtd's own drivers takes the name, or none at all. If the
// name is empty, libvirtd chooses the driver.
func isOwnName(name string) bool {
	if name == "" || strings.EqualFold(name, "xen") {
		return true
	}
	prefix := scheme.FindString(name)
	if prefix == "" { // not a URI, or an alias that libvirtd looks up in its host's libvirt.conf
		return false
	}
	driver, rest := strings.TrimSuffix(prefix, ":"), name[len(prefix):]
	if driver == "remote" || hasSocket(rest) {
		return false
	}
	server, hasAuthority := strings.CutPrefix(rest, "//")
	if end := strings.IndexAny(server, "/?#"); end >= 0 {
		server = server[:end]
	}
	return !hasAuthority || server == "" || slices.Contains(remoteHypervisors, driver)
}

// hasSocket reports whether the rest of a URI may have the parameter "socket". libvirt separates
// parameters by "&", or by ";" behind the last "&". Since 11.3.0 at the latest it ignores the case
// of their names.
func hasSocket(rest string) bool {
	_, query, _ := strings.Cut(rest, "?")
	return slices.ContainsFunc(strings.FieldsFunc(query, func(r rune) bool { return strings.ContainsRune("?&;#", r) }), func(parameter string) bool {
		name, _, _ := strings.Cut(parameter, "=")
		name, _, _ = strings.Cut(unescape(name), "\x00") // a C string ends there
		return strings.EqualFold(name, "socket")
	})
}

// escape matches a byte in hexadecimal digits. libvirt leaves a "%" without such digits as it is.
var escape = regexp.MustCompile(`%[0-9A-Fa-f]{2}`)

func unescape(s string) string {
	return escape.ReplaceAllStringFunc(s, func(e string) string {
		b, _ := url.PathUnescape(e) // escape matches only valid ones
		return b
	})
}

// plainDriver and plainPath match the parts of a name that the refusal repeats in its suggestion.
var (
	plainDriver = regexp.MustCompile(`\A[A-Za-z][A-Za-z0-9.-]*`)
	plainPath   = regexp.MustCompile(`\A/[A-Za-z0-9._/-]*\z`)
)

// ownName returns the name that the refusal of a name suggests.
func ownName(name string) string {
	driver := strings.ToLower(plainDriver.FindString(name))
	before, rest, isURI := strings.Cut(name, ":")
	path := "/system"
	if isURI {
		rest = strings.TrimPrefix(rest, "//")
		rest, _, _ = strings.Cut(rest, "?")
		rest, _, _ = strings.Cut(rest, "#")
		if i := strings.IndexByte(rest, '/'); i >= 0 && len(rest[i:]) > 1 && plainPath.MatchString(rest[i:]) {
			path = rest[i:]
		}
	}
	if !isURI || driver == "" || driver == "remote" || !strings.HasPrefix(strings.ToLower(before), driver) {
		driver = "qemu"
	}
	switch own := driver + "://" + path; {
	case slices.Contains(remoteHypervisors, driver):
		return driver + "://HOST/"
	case isOwnName(own):
		return own
	}
	return "qemu:///system"
}
