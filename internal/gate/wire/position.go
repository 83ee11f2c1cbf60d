package wire

import "errors"

// A Position is where a [Splitter] stands, between two frames or within one, in a form that can be
// kept. The zero value is between two frames.
type Position struct {
	Head        []byte // Head is what has been seen of a header that is not complete.
	Header      Header // Header is that of the frame that has begun, if Left or Descriptors is not 0.
	Left        int    // Left is how many bytes of the frame have not been seen.
	Descriptors int    // Descriptors is how many bytes behind it, each for a descriptor, have not been seen.
}

// Position returns where s stands.
func (s *Splitter) Position() Position {
	if !s.started {
		return Position{Head: append([]byte(nil), s.head[:s.have]...)}
	}
	return Position{Header: s.header, Left: s.left, Descriptors: s.descriptors}
}

// At returns a Splitter like s that stands at a position.
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
