package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/stopguard/stopguard/internal/uuid"
)

// ErrArguments is returned when a [Decoder] finds fewer bytes than it reads, or a value that
// libvirt does not allow.
var ErrArguments = errors.New("the arguments are not as libvirt has them")

// A Decoder reads XDR as libvirtd does: it accepts a prefix and ignores the rest, does not check
// the padding of a string, and takes any number but zero for true. After an error it returns zero
// values.
type Decoder struct {
	data []byte
	err  error
}

// Decode returns a Decoder of a call's arguments. Its results share data's memory.
func Decode(data []byte) *Decoder { return &Decoder{data: data} }

// Err returns ErrArguments if a read has failed.
func (d *Decoder) Err() error { return d.err }

func (d *Decoder) next(n int) []byte {
	if d.err == nil && n > len(d.data) {
		d.err, d.data = ErrArguments, nil
	}
	if d.err != nil {
		return nil
	}
	b := d.data[:n]
	d.data = d.data[n:]
	return b
}

// Uint32 reads an unsigned or signed int.
func (d *Decoder) Uint32() uint32 {
	if b := d.next(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// Uint64 reads a hyper.
func (d *Decoder) Uint64() uint64 {
	if b := d.next(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// Bool reads a bool, or whether an optional value is present.
func (d *Decoder) Bool() bool { return d.Uint32() != 0 }

// UUID reads the 16 bytes of a UUID, and returns it in the form
// 01234567-89ab-cdef-0123-456789abcdef.
func (d *Decoder) UUID() string {
	if b := d.next(16); b != nil {
		return uuid.UUID(b).String()
	}
	return ""
}

// Opaque reads bytes of any length.
func (d *Decoder) Opaque() []byte {
	n := d.Uint32()
	if d.err == nil && int64(n) > int64(len(d.data)) {
		d.err, d.data = ErrArguments, nil
	}
	b := d.next(int(n))
	d.next(int(-n & 3))
	if d.err != nil {
		return nil
	}
	return b
}

// String reads a string as it reaches libvirt's functions: in C it ends at the first zero byte.
func (d *Decoder) String() string {
	b := d.Opaque()
	if len(b) > MaxString {
		d.err, d.data = ErrArguments, nil
		return ""
	}
	if end := bytes.IndexByte(b, 0); end >= 0 {
		b = b[:end]
	}
	return string(b)
}

// AppendUint32 appends an int.
func AppendUint32(b []byte, n uint32) []byte { return binary.BigEndian.AppendUint32(b, n) }

// AppendString appends a string.
func AppendString(b []byte, s string) []byte {
	b = append(AppendUint32(b, uint32(len(s))), s...)
	return append(b, make([]byte, -len(s)&3)...)
}

// AppendDomain appends a domain. libvirtd reads only the UUID.
func AppendDomain(b []byte, name, id string) ([]byte, error) {
	raw, ok := uuid.Parse(id)
	if !ok {
		return nil, fmt.Errorf("%.60q is not a UUID", id)
	}
	b = append(AppendString(b, name), raw[:]...)
	return AppendUint32(b, 0xffffffff), nil
}

// Fail makes the Decoder fail, for a caller that finds a value invalid.
func (d *Decoder) Fail() { d.err, d.data = ErrArguments, nil }
