package relay

import (
	"errors"
	"io"
	"os"

	"github.com/stopguard/stopguard/internal/gate/wire"
)

// noDescriptor marks a piece that is not a descriptor.
const noDescriptor = -1

// pump reads from a socket until it ends, with a rest where it is asked for one, and gives out what
// it reads in pieces of frames. Whoever takes a descriptor has to close it.
func pump(from *socket, s *wire.Splitter, take func(p wire.Piece, descriptor int) error) error {
	for {
		b, n, descriptors, err := from.receive()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			from.pauser.rest()
			continue
		}
		if err != nil {
			return err
		}
		err = cut(s, b.data[:n], descriptors, take)
		buffers.Put(b)
		if err != nil {
			return err
		}
	}
}

// cut returns out what was read at once. A descriptor comes with the byte that stands for it, and
// with nothing else: one that comes with other bytes would be lost in libvirt, and could be taken
// here for what it is not.
func cut(s *wire.Splitter, data []byte, descriptors []int, take func(p wire.Piece, descriptor int) error) error {
	defer func() { closeAll(descriptors) }()
	for {
		p, rest, ok, err := s.Next(data)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		data = rest
		descriptor := noDescriptor
		if p.Descriptor {
			if len(descriptors) == 0 {
				return errors.New("a descriptor is missing where one was announced; this is not libvirt's protocol")
			}
			descriptor, descriptors = descriptors[0], descriptors[1:]
		}
		if err := take(p, descriptor); err != nil {
			return err
		}
	}
	if len(descriptors) > 0 {
		return errors.New("a descriptor came where none was announced; this is not libvirt's protocol")
	}
	return nil
}
