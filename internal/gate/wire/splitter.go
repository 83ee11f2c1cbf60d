package wire

import (
	"encoding/binary"
	"fmt"
)

// A Splitter cuts the bytes that one side sends into frames. It keeps no more than a header,
// however large a frame is.
//
// Behind a frame with descriptors come more bytes, one for each descriptor, which the frame's
// length does not count. Each direction has its own kind of frame with descriptors. libvirt treats
// the other direction's kind as a frame without descriptors, and so does a Splitter.
type Splitter struct {
	carrier     Kind
	head        [HeaderSize + 4]byte
	have        int // bytes in head
	header      Header
	started     bool // the first piece of the frame was returned
	left        int  // bytes of the frame to come
	descriptors int  // bytes for descriptors to come
}

// FromClient returns a Splitter for the frames of clients.
func FromClient() Splitter { return Splitter{carrier: CallWithFDs} }

// FromServer returns a Splitter for the frames of libvirtd.
func FromServer() Splitter { return Splitter{carrier: ReplyWithFDs} }

// A Piece is a part of one frame.
type Piece struct {
	Header Header // Header is the header of the frame, in each of its pieces.

	// Bytes is the content. In the first piece it begins with the whole header, and with the number
	// of descriptors if the frame has one. It shares memory with the data for Next, or with the
	// Splitter, which reuses it at the next call.
	Bytes []byte

	// First and Last are set if the frame, including its descriptors, begins or ends with the
	// piece.
	First, Last bool

	// Descriptor is set if Bytes is the one byte for a descriptor. That byte is not part of the
	// frame.
	Descriptor bool
}

// Next returns the next piece of data, and the rest of data. ok is false if data has only a part of
// a header, which the Splitter keeps. After an error nothing that follows can be understood.
func (s *Splitter) Next(data []byte) (p Piece, rest []byte, ok bool, err error) {
	switch {
	case len(data) == 0:
		return Piece{}, nil, false, nil
	case !s.started:
		return s.begin(data)
	case s.left > 0:
		return s.take(data)
	}
	s.descriptors--
	p = Piece{Header: s.header, Bytes: data[:1], Descriptor: true}
	return s.end(p), data[1:], true, nil
}

// begin reads a header. If the whole header is in data, the piece has the bytes behind it as well.
func (s *Splitter) begin(data []byte) (Piece, []byte, bool, error) {
	if s.have == 0 {
		if n, err := s.headOf(data); err != nil || n > 0 {
			if err != nil {
				return Piece{}, nil, false, err
			}
			s.start(data[:n])
			p, rest, _, err := s.take(data)
			p.First = true
			return p, rest, true, err
		}
	}
	for len(data) > 0 {
		// Word by word, so that a wrong length is an error before the rest of the header comes.
		n := min(4-s.have%4, len(data))
		copy(s.head[s.have:], data[:n])
		s.have += n
		data = data[n:]
		n, err := s.headOf(s.head[:s.have])
		if err != nil {
			return Piece{}, nil, false, err
		}
		if n > 0 {
			s.start(s.head[:n])
			p, _, _, err := s.take(s.head[:n])
			p.First = true
			return p, data, true, err
		}
	}
	return Piece{}, nil, false, nil
}

// headOf returns how many of these bytes belong to the header and the number of descriptors; 0 if
// they are not complete.
func (s *Splitter) headOf(b []byte) (int, error) {
	if len(b) < 4 {
		return 0, nil
	}
	if err := checkLength(binary.BigEndian.Uint32(b)); err != nil {
		return 0, err
	}
	if len(b) < HeaderSize {
		return 0, nil
	}
	h := ReadHeader(b)
	if h.Kind > lastKind {
		return 0, fmt.Errorf("a frame of the kind %d, of which nobody knows what it does; this is not libvirt's protocol", h.Kind)
	}
	if h.Kind != s.carrier {
		return HeaderSize, nil
	}
	if h.Length < HeaderSize+4 {
		return 0, fmt.Errorf("a frame of %d bytes that is to bring descriptors does not say how many; this is not libvirt's protocol", h.Length)
	}
	if len(b) < HeaderSize+4 {
		return 0, nil
	}
	if n := binary.BigEndian.Uint32(b[HeaderSize:]); n > MaxDescriptors {
		return 0, fmt.Errorf("a frame with %d descriptors, where libvirt has at most %d; this is not libvirt's protocol", n, MaxDescriptors)
	}
	return HeaderSize + 4, nil
}

func (s *Splitter) start(head []byte) {
	s.header = ReadHeader(head)
	s.started, s.have = true, 0
	s.left, s.descriptors = int(s.header.Length), 0
	if s.header.Kind == s.carrier {
		s.descriptors = int(binary.BigEndian.Uint32(head[HeaderSize:]))
	}
}

// take returns as much of the frame as there is in data.
func (s *Splitter) take(data []byte) (Piece, []byte, bool, error) {
	n := min(s.left, len(data))
	s.left -= n
	return s.end(Piece{Header: s.header, Bytes: data[:n]}), data[n:], true, nil
}

// end marks the piece as the last if it is.
func (s *Splitter) end(p Piece) Piece {
	if s.left == 0 && s.descriptors == 0 {
		p.Last, s.started = true, false
	}
	return p
}
