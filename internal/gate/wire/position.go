package wire

import "errors"

// A Position is the position of a [Splitter], between two frames or within one, in a form that can
// be stored. The zero value is between two frames.
type Position struct {
	Head        []byte // Head is the beginning of a header that is not complete.
	Header      Header // Header is the header of the frame that has begun, if Left or Descriptors is not 0.
	Left        int    // Left is the number of bytes of the frame to come.
	Descriptors int    // Descriptors is the number of bytes for descriptors to come, behind the frame.
}

// Position returns the position of s.
func (s *Splitter) Position() Position {
	if !s.started {
		return Position{Head: append([]byte(nil), s.head[:s.have]...)}
	}
	return Position{Header: s.header, Left: s.left, Descriptors: s.descriptors}
}

// At returns a Splitter like s at a position. It returns an error if the position is impossible.
func (s Splitter) At(p Position) (Splitter, error) {
	s.started = p.Left > 0 || p.Descriptors > 0
	switch {
	case p.Left < 0 || p.Left > MaxFrame || p.Descriptors < 0 || p.Descriptors > MaxDescriptors,
		len(p.Head) >= len(s.head), s.started && len(p.Head) > 0:
		return Splitter{}, errors.New("a place within a frame that cannot be; report this")
	}
	s.have = copy(s.head[:], p.Head)
	s.header, s.left, s.descriptors = p.Header, p.Left, p.Descriptors
	return s, nil
}
