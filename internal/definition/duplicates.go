package definition

import (
	"fmt"
	"path"

	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/problem"
)

// refuseDuplicates sets the error of each definition whose domain has another one, by name or UUID.
// A daemon that starts loads files of any name (seen with libvirt 9.0.0), and of two it takes one
// in the folder's order. While it runs it writes the file that is called like the domain, so that
// this one counts; otherwise the first does.
func refuseDuplicates(all []Definition) {
	names, uuids := map[string]*Definition{}, map[string]*Definition{}
	for _, own := range []bool{true, false} {
		for i := range all {
			d := &all[i]
			if d.Domain == nil || d.isOwn() != own {
				continue
			}
			other, has := names[d.Domain.Name]
			if !has {
				other, has = uuids[d.Domain.UUID]
			}
			if !has {
				names[d.Domain.Name], uuids[d.Domain.UUID] = d, d
				continue
			}
			*d = Definition{Name: d.file, file: d.file, Err: &problem.Error{
				What: fmt.Sprintf("%s defines the domain of %s.xml once more, and libvirt loads one of the two when it starts", path.Join(Folder, d.file+".xml"), other.file),
				Cure: "move out the file that is not meant to count",
			}}
		}
	}
}

// isOwn reports whether the file is the one that libvirt writes for the domain.
func (d Definition) isOwn() bool { return d.Domain.Name == hookproto.WrittenName(d.file) }
