// Package uuid reads UUIDs as libvirt does.
package uuid

import "encoding/hex"

// A UUID is the 16 bytes of a domain's UUID.
type UUID [16]byte

// Parse reads 32 hexadecimal digits with hyphens anywhere (virUUIDParse). It reports whether s has
// this form.
func Parse(s string) (u UUID, ok bool) {
	n := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		var digit byte
		switch {
		case '0' <= c && c <= '9':
			digit = c - '0'
		case 'a' <= c && c <= 'f':
			digit = c - 'a' + 10
		case 'A' <= c && c <= 'F':
			digit = c - 'A' + 10
		case c == '-':
			continue
		default:
			return UUID{}, false
		}
		if n == 32 {
			return UUID{}, false
		}
		u[n/2] = u[n/2]<<4 | digit
		n++
	}
	return u, n == 32
}

// String returns the UUID in libvirt's form, in lower case with hyphens.
func (u UUID) String() string {
	var b [36]byte
	hex.Encode(b[0:], u[0:4])
	hex.Encode(b[9:], u[4:6])
	hex.Encode(b[14:], u[6:8])
	hex.Encode(b[19:], u[8:10])
	hex.Encode(b[24:], u[10:16])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return string(b[:])
}

// Canonical returns a UUID in libvirt's form; "" if s is not a UUID.
func Canonical(s string) string {
	u, ok := Parse(s)
	if !ok {
		return ""
	}
	return u.String()
}

// IsCanonical reports whether s is a UUID in libvirt's form.
func IsCanonical(s string) bool { return len(s) == 36 && s == Canonical(s) }
