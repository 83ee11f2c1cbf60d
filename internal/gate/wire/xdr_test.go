package wire

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stopguard/stopguard/internal/uuid"
)

func TestArgumentsAreReadAsLibvirtdReadsThem(t *testing.T) {
	for _, tt := range []struct {
		why, data string
		read      func(*Decoder) any
		want      any
		fails     bool
	}{
		{"a string is filled up to a word", "\x00\x00\x00\x02ab\x00\x00\x00\x00\x00\x07",
			func(d *Decoder) any { return []any{d.String(), d.Uint32()} }, []any{"ab", uint32(7)}, false},
		{"with anything", "\x00\x00\x00\x02abXY", func(d *Decoder) any { return d.String() }, "ab", false},
		{"but it must be there", "\x00\x00\x00\x02ab\x00", func(d *Decoder) any { return d.String() }, "", true},
		{"a string ends at a zero byte", "\x00\x00\x00\x08info\x00qui", func(d *Decoder) any { return d.String() }, "info", false},
		{"longer than the rest", "\xff\xff\xff\xffab", func(d *Decoder) any { return d.String() }, "", true},
		{"the longest string", "\x00\x40\x00\x00" + strings.Repeat("a", MaxString), func(d *Decoder) any { return len(d.String()) }, MaxString, false},
		{"one byte more", "\x00\x40\x00\x01" + strings.Repeat("a", MaxString+4), func(d *Decoder) any { return len(d.String()) }, 0, true},
		{"true is anything but zero", "\x00\x00\x00\x02", func(d *Decoder) any { return d.Bool() }, true, false},
		{"what follows is left alone", "\x00\x00\x00\x05garbage", func(d *Decoder) any { return d.Uint32() }, uint32(5), false},
		{"a UUID", "\x5b\x4d\x5b\x3c\x6f\x53\x4b\x8a\x8a\x5e\x9f\x7f\x6b\x6a\x0c\x11", func(d *Decoder) any { return d.UUID() }, "5b4d5b3c-6f53-4b8a-8a5e-9f7f6b6a0c11", false},
		{"a UUID that is cut", "\x5b\x4d", func(d *Decoder) any { return d.UUID() }, "", true},
		{"a hyper that is cut", "\x00\x00\x00\x00\x01", func(d *Decoder) any { return d.Uint64() }, uint64(0), true},
	} {
		t.Run(tt.why, func(t *testing.T) {
			d := Decode([]byte(tt.data))
			if diff := cmp.Diff(tt.want, tt.read(d)); diff != "" {
				t.Error(diff)
			}
			if (d.Err() != nil) != tt.fails {
				t.Errorf("err = %v", d.Err())
			}
		})
	}
}

// The bytes are those of a DESTROY of a domain that is not there, as libvirtd 9.0.0 answered it.
func TestAnErrorOfLibvirtdIsRead(t *testing.T) {
	e, err := ReadError([]byte("\x00\x00\x00\x2a\x00\x00\x00\x0a\x00\x00\x00\x01\x00\x00\x00\x10Domain not found\x00\x00\x00\x02\x00\x00\x00\x00"))
	if diff := cmp.Diff(&Error{Code: CodeNoDomain, Domain: FromQEMU, Message: "Domain not found"}, e); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

func TestARefusalAnswersItsCall(t *testing.T) {
	call := Header{Length: 60, Program: 0x20008086, Version: 1, Procedure: 12, Kind: CallWithFDs, Serial: 77}
	data := (&Error{Code: CodeAccessDenied, Domain: FromQEMU, Message: "no", Detail: "rule"}).Refusal(call)
	want := Header{Length: uint32(len(data)), Program: 0x20008086, Version: 1, Procedure: 12, Kind: Reply, Serial: 77, Status: Failed}
	if diff := cmp.Diff(want, ReadHeader(data)); diff != "" {
		t.Error(diff)
	}
	const body = "\x00\x00\x00\x58\x00\x00\x00\x0a" + "\x00\x00\x00\x01\x00\x00\x00\x02no\x00\x00" + "\x00\x00\x00\x02" + "\x00\x00\x00\x00" +
		"\x00\x00\x00\x01\x00\x00\x00\x02%s\x00\x00" + "\x00\x00\x00\x01\x00\x00\x00\x02no\x00\x00" + "\x00\x00\x00\x01\x00\x00\x00\x04rule" +
		"\xff\xff\xff\xff\xff\xff\xff\xff" + "\x00\x00\x00\x00"
	if diff := cmp.Diff(body, string(data[HeaderSize:])); diff != "" {
		t.Error(diff)
	}
}

// FuzzDecoder: what is read lies within what was given, and nothing is made larger than it.
func FuzzDecoder(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x02abXY"), "soub")
	f.Fuzz(func(t *testing.T, data []byte, reads string) {
		d, total := Decode(data), 0
		for _, c := range reads {
			switch c {
			case 's':
				total += len(d.String())
			case 'o':
				total += len(d.Opaque())
			case 'u':
				d.Uint32()
			case 'l':
				d.Uint64()
			case 'i':
				if id := d.UUID(); id != "" {
					if !uuid.IsCanonical(id) {
						t.Fatalf("%q is not a UUID in libvirt's form", id)
					}
				}
			}
		}
		if total+len(d.data) > len(data) {
			t.Fatalf("%d bytes out of %d", total, len(data))
		}
	})
}
