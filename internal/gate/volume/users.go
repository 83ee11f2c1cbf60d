package volume

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"libvirt.org/go/libvirtxml"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/internal/gate/call"
)

// searchTime bounds the search for the users of a volume. It is less than the time for a decision.
const searchTime = 3 * time.Second

var errLate = fmt.Errorf("libvirt's daemon did not say within %v which domains use the volume; try again, on a connection without other calls, and look for a daemon that does not answer", searchTime)

// maxDepth bounds a chain of overlays.
const maxDepth = 20

// A User is a domain that uses a volume, or may use it.
type User struct {
	UUID string
	XML  []byte // of its run, or as it starts next if it is off; nil if it is too large to be read
}

// Users returns the domains with a disk on the volume. If name is "", it returns those with a disk
// on a device that building the pool overwrites and, unless pool.OnlyDevices is set, on any volume
// of the pool. It also finds the volume further down a disk's chain of overlays, in the definition
// for the next start, and in domains that are off. Drives for media do not count. A domain that libvirt's daemon refuses to
// show the client is not found. A domain whose XML is too large may use any volume, and is found.
// Users returns an error if the daemon does not answer in time, or if XML cannot be parsed.
func Users(ctx context.Context, l Libvirtd, pool call.Pool, name string) ([]User, error) {
	ctx, cancel := context.WithTimeout(ctx, searchTime)
	defer cancel()
	s := search{ctx: ctx, Libvirtd: l, backing: map[string]string{}}
	users, err := s.users(pool, name)
	if ctx.Err() != nil {
		return nil, errLate
	}
	return users, err
}

// A search finds the users of one target.
type search struct {
	Libvirtd
	ctx     context.Context
	target  target
	backing map[string]string // by the path of the overlay
}

// users returns the users that are found before the context ends.
func (s *search) users(pool call.Pool, name string) ([]User, error) {
	var isKnown bool
	var err error
	if s.target, isKnown, err = findTarget(s.ctx, s.Libvirtd, pool, name); !isKnown {
		return nil, err
	}
	var users []User
	all := domains(s.ctx, s.Libvirtd)
	for _, id := range slices.Sorted(maps.Keys(all)) {
		if s.ctx.Err() != nil {
			return nil, errLate
		}
		user, uses, err := s.uses(id, all[id] != 0)
		if err != nil {
			return nil, err
		}
		if uses {
			users = append(users, user)
		}
	}
	return users, nil
}

// uses reports whether a domain uses the target, or may use it.
func (s *search) uses(id string, runs bool) (User, bool, error) {
	user := User{UUID: id}
	for _, flags := range []uint32{0, inactive} {
		if flags == inactive && !runs {
			break // it was the same
		}
		xml, err := s.XML(s.ctx, id, flags)
		switch {
		case errors.Is(err, ErrTooLarge):
			return User{UUID: id}, true, nil
		case err != nil:
			return user, false, nil
		}
		if user.XML == nil {
			user.XML = xml
		}
		isUser, err := s.isIn(xml, flags == inactive || !runs)
		if err != nil {
			return user, false, fmt.Errorf("whether domain %s uses the volume cannot be known: %w; look at it with virsh dumpxml", id, err)
		}
		if isUser {
			return user, true, nil
		}
	}
	return user, false, nil
}

// isIn reports whether the target is among the disks of a domain's XML. If isOff is set, it also
// follows the chains of overlays: libvirtd's XML has them for running domains only.
func (s *search) isIn(xml []byte, isOff bool) (bool, error) {
	domain, err := domainxml.Parse(xml)
	if err != nil {
		return false, err
	}
	whole, err := domain.Libvirt()
	if err != nil || whole.Devices == nil {
		return false, err
	}
	for _, disk := range whole.Devices.Disks {
		if disk.Device == "cdrom" || disk.Device == "floppy" {
			continue
		}
		sources := sourcesOf(disk)
		if slices.ContainsFunc(sources, s.target.is) {
			return true, nil
		}
		isRaw := disk.Driver != nil && disk.Driver.Type == "raw"
		if isOff && !isRaw && len(sources) > 0 && s.isBacking(sources[len(sources)-1]) {
			return true, nil
		}
	}
	return false, nil
}

// sourcesOf returns the sources of a disk: its own, those down its chain of overlays, and the
// target of a copy that is under way.
func sourcesOf(disk libvirtxml.DomainDisk) []libvirtxml.DomainDiskSource {
	var sources []libvirtxml.DomainDiskSource
	if disk.Mirror != nil && disk.Mirror.Source != nil {
		sources = append(sources, *disk.Mirror.Source)
	}
	if disk.Source != nil {
		sources = append(sources, *disk.Source)
	}
	for b := disk.BackingStore; b != nil && b.Source != nil && len(sources) < maxDepth; b = b.BackingStore {
		sources = append(sources, *b.Source)
	}
	return sources
}

// isBacking reports whether the target is further down the chain of an overlay. It follows the
// chain as long as libvirtd has volumes for it.
func (s *search) isBacking(overlay libvirtxml.DomainDiskSource) bool {
	at := ""
	switch {
	case overlay.File != nil:
		at = overlay.File.File
	case overlay.Block != nil:
		at = overlay.Block.Dev
	case overlay.Volume != nil:
		at = pathOf(s.ctx, s.Libvirtd, overlay.Volume.Pool, overlay.Volume.Volume)
	}
	for depth := 0; at != "" && depth < maxDepth; depth++ {
		backing, isKnown := s.backing[at]
		if !isKnown {
			backing = backingOf(s.ctx, s.Libvirtd, at)
			s.backing[at] = backing
		}
		if at = backing; at != "" && s.target.isPath(at) {
			return true
		}
	}
	return false
}

// A target is the volume, or the volumes of the pool, that a call would destroy.
type target struct {
	pool, name string // name is "" for all volumes of the pool
	paths      []string
	devices    []string // of the pool itself, which building the pool overwrites

	arePartitions bool // the volumes are partitions of the disks at the paths
}

// partition matches the part of a partition's path behind that of its disk, as in /dev/sdb1.
var partition = regexp.MustCompile(`\A(p|-part)?[0-9]+\z`)

// findTarget asks libvirtd for the paths of the volumes. It reports false if libvirtd does not
// return them. The error is about a new pool's XML, which libvirtd may be able to read.
func findTarget(ctx context.Context, l Libvirtd, pool call.Pool, name string) (target, bool, error) {
	if name != "" {
		at := pathOf(ctx, l, pool.Name, name)
		return target{pool: pool.Name, name: name, paths: []string{at}}, at != "", nil
	}
	document, err := describePool(ctx, l, pool)
	switch {
	case err != nil && pool.XML != "":
		return target{}, false, fmt.Errorf("the new pool's XML cannot be read: %w; correct it", err)
	case err != nil:
		return target{}, false, nil
	}
	isBuilt := !slices.Contains([]string{"iscsi", "iscsi-direct", "scsi", "mpath"}, document.Type) // libvirt neither builds nor deletes these
	var t target
	for _, device := range document.Source.Devices {
		if isBuilt && device.Path != "" {
			t.devices = append(t.devices, device.Path)
		}
	}
	if pool.OnlyDevices {
		return t, true, nil
	}
	t.pool = document.Name
	switch {
	case !isBuilt:
	case document.Type == "disk":
		t.paths, t.arePartitions = t.devices, true
	case document.Type == "rbd":
		t.paths = []string{document.Source.Name}
	default:
		t.paths = []string{document.Target}
	}
	return t, true, nil
}

// is reports whether a disk's source is the target.
func (t target) is(source libvirtxml.DomainDiskSource) bool {
	switch {
	case source.Volume != nil:
		return source.Volume.Pool == t.pool && (t.name == "" || source.Volume.Volume == t.name)
	case source.File != nil:
		return t.isPath(source.File.File)
	case source.Block != nil:
		return t.isPath(source.Block.Dev)
	case source.Network != nil:
		return t.isPath(source.Network.Name)
	}
	return false
}

// isPath reports whether a path is the volume's, in the pool, or a device of the pool.
func (t target) isPath(at string) bool {
	isDevice := func(device string) bool { return path.Clean(device) == path.Clean(at) }
	return slices.ContainsFunc(t.devices, isDevice) || slices.ContainsFunc(t.paths, func(of string) bool {
		of, at := path.Clean(of), path.Clean(at)
		switch {
		case of == "." || of == "/":
			return false
		case t.name != "":
			return at == of
		}
		rest, isBehind := strings.CutPrefix(at, of)
		return isBehind && (strings.HasPrefix(rest, "/") || t.arePartitions && partition.MatchString(rest))
	})
}
