package wire

import (
	"encoding/hex"
	"fmt"
)

// FormatUUID gives the form that libvirt prints.
func FormatUUID(u [16]byte) string {
	var b [36]byte
	for i, at := 0, 0; i < len(u); i++ {
		switch i {
		case 4, 6, 8, 10:
			b[at] = '-'
			at++
		}
		hex.Encode(b[at:], u[i:i+1])
		at += 2
	}
	return string(b[:])
}

// ParseUUID reads what FormatUUID gives, in lower or upper case.
func ParseUUID(s string) (u [16]byte, err error) {
	if len(s) == 36 && s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-' {
		_, err = hex.Decode(u[:], []byte(s[:8]+s[9:13]+s[14:18]+s[19:23]+s[24:]))
		if err == nil {
			return u, nil
		}
	}
	return u, fmt.Errorf("%.60q is no UUID", s)
}
