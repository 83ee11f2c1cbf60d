package transport

import (
	"errors"
	"io"
	"os"

	"github.com/stopguard/stopguard/internal/gate/wire"
)

// Pump reads from a socket until it ends, and passes what it reads to take, in pieces of frames. It
// pauses if the socket's Pauser says so. take has to close the descriptors that it gets; the
// descriptor is [NoDescriptor] for a piece without one. Pump returns nil at the end of the socket,
// and take's error at once.
func Pump(from *Socket, s *wire.Splitter, take func(p wire.Piece, descriptor int) error) error {
	for {
		b, n, descriptors, err := from.receive()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			from.Pauser.Rest()
			continue
		}
		if err != nil {
			return err
		}
		err = Cut(s, b.data[:n], descriptors, take)
		buffers.Put(b)
		if err != nil {
			return err
		}
	}
}

// Cut passes bytes and descriptors that were read at once to take, as [Pump] does. A descriptor
// comes with the byte that stands for it, and with nothing else: one that comes with other bytes
// would be lost in libvirt, and could be taken here for what it is not.
func Cut(s *wire.Splitter, data []byte, descriptors []int, take func(p wire.Piece, descriptor int) error) error {
	defer func() { CloseAll(descriptors) }()
	for {
		p, rest, ok, err := s.Next(data)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		data = rest
		descriptor := NoDescriptor
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
