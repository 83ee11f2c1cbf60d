package wire

import (
	"encoding/binary"
	"fmt"
)

// The limits of libvirt's frames, in bytes. libvirt closes a connection that exceeds them, and a
// proxy before it must do the same.
const (
	HeaderSize     = 28       // HeaderSize is the smallest frame: the length, which counts itself, and six more words.
	MaxFrame       = 33554436 // MaxFrame is the largest length word that libvirtd accepts: 32 MiB and the word itself.
	MaxString      = 4194304  // MaxString is the longest string in the arguments of a call.
	MaxDescriptors = 32       // MaxDescriptors is the largest number of descriptors that come with a frame.
)

// Kind is the kind of a frame. An unknown kind may be a call, or the beginning of encryption: the
// gate cannot tell whether such a frame has to be decided.
type Kind uint32

// The kinds of frames. Only Call and CallWithFDs make libvirtd act; it ignores the others where it
// does not expect them.
const (
	Call Kind = iota
	Reply
	Message
	Stream
	CallWithFDs
	ReplyWithFDs
	StreamHole

	lastKind = StreamHole
)

// Status is the status of a reply or a stream.
type Status uint32

// The statuses of frames.
const (
	OK Status = iota
	Failed
	Continue
)

// A Header is the fixed part of every frame.
type Header struct {
	Length    uint32 // Length is the length of the frame with this word, without the bytes for descriptors.
	Program   uint32
	Version   uint32
	Procedure uint32
	Kind      Kind
	Serial    uint32 // Serial is a number of the caller's choice; two calls may have the same.
	Status    Status
}

// ReadHeader reads the first [HeaderSize] bytes of a frame.
func ReadHeader(b []byte) Header {
	_ = b[HeaderSize-1]
	word := func(i int) uint32 { return binary.BigEndian.Uint32(b[4*i:]) }
	return Header{word(0), word(1), word(2), word(3), Kind(word(4)), word(5), Status(word(6))}
}

// Append appends the header to b.
func (h Header) Append(b []byte) []byte {
	for _, word := range [...]uint32{h.Length, h.Program, h.Version, h.Procedure, uint32(h.Kind), h.Serial, uint32(h.Status)} {
		b = binary.BigEndian.AppendUint32(b, word)
	}
	return b
}

// Frame returns a frame of a header, whose Length it sets, and a payload.
func Frame(h Header, payload []byte) []byte {
	h.Length = uint32(HeaderSize + len(payload))
	return append(h.Append(make([]byte, 0, h.Length)), payload...)
}

func checkLength(length uint32) error {
	if length < HeaderSize || length > MaxFrame {
		return fmt.Errorf("a frame of %d bytes, where libvirt has %d to %d; this is not libvirt's protocol", length, HeaderSize, MaxFrame)
	}
	return nil
}
