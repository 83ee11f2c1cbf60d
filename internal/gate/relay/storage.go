package relay

import (
	"context"

	"github.com/stopguard/stopguard/internal/gate/volume"
)

// storage is an evaluation as a [volume.Libvirtd]. The slot is free while libvirtd answers.
type storage struct{ *evaluation }

var _ volume.Libvirtd = storage{}

// Ask makes a call on the client's connection.
func (s storage) Ask(ctx context.Context, procedure uint32, args []byte) ([]byte, error) {
	s.leave()
	return s.question(ctx, procedure, args)
}

// XML returns a domain's XML, and takes the slot again so that the caller may parse it.
func (s storage) XML(ctx context.Context, uuid string, flags uint32) ([]byte, error) {
	s.leave()
	xml, err := s.connection.xml(ctx, uuid, flags)
	if err == nil && !s.enter() {
		return nil, errLate
	}
	return xml, err
}

// storage decides about each domain that uses the volume, or a volume of the pool, or may use it.
func (j *evaluation) storage() error {
	users, err := volume.Users(j.ctx, storage{j}, j.call.Pool, j.call.Volume)
	if err != nil {
		return err
	}
	for _, user := range users {
		if user.XML == nil {
			err = j.undescribed(user.UUID)
		} else {
			err = j.described(user.UUID, user.XML)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
