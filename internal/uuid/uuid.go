// Package uuid reads UUIDs as libvirt does.
package uuid

import "fmt"

// A UUID is the 16 bytes of a domain's UUID.
type UUID [16]byte

// Parse reads 32 hexadecimal digits with hyphens anywhere between them (virUUIDParse). It reports whether s is that.
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

// String returns the UUID as libvirt writes it, in lower case with hyphens.
func (u UUID) String() string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:16])
}
