package volume

import (
	"context"
	"encoding/xml"
	"errors"
	"slices"
	"time"

	"github.com/stopguard/stopguard/internal/gate/call"
	"github.com/stopguard/stopguard/internal/gate/wire"
	"github.com/stopguard/stopguard/internal/uuid"
)

// A Libvirtd answers questions on a client's connection.
type Libvirtd interface {
	// Ask makes a call of the remote program, and returns the reply.
	Ask(ctx context.Context, procedure uint32, args []byte) ([]byte, error)

	// XML returns a domain's XML: that of its run, or with the flag [inactive] that of its next
	// start. Concurrent calls may share the bytes. The error is [ErrTooLarge] if the client may
	// read the XML, and it is too large to be sent and cannot be read elsewhere.
	XML(ctx context.Context, uuid string, flags uint32) ([]byte, error)
}

// ErrTooLarge is returned for the XML of a domain that is too large to be sent.
var ErrTooLarge = errors.New("the domain's XML is too large to be sent")

// The procedures of libvirtd that are called.
const (
	poolXML      = 88  // STORAGE_POOL_GET_XML_DESC
	volumeByPath = 97  // STORAGE_VOL_LOOKUP_BY_PATH
	volumeXML    = 99  // STORAGE_VOL_GET_XML_DESC
	volumePath   = 100 // STORAGE_VOL_GET_PATH
	isPersistent = 151 // DOMAIN_IS_PERSISTENT
	blockInfo    = 194 // DOMAIN_GET_BLOCK_INFO
	listDomains  = 273 // CONNECT_LIST_ALL_DOMAINS

	inactive = 2 // VIR_DOMAIN_XML_INACTIVE
)

// IsAsked reports whether this package makes calls of the procedure.
func IsAsked(procedure uint32) bool {
	return slices.Contains([]uint32{poolXML, volumeByPath, volumeXML, volumePath, isPersistent, blockInfo, listDomains}, procedure)
}

// transientTime bounds libvirtd's answer whether a domain is transient. A guest that hangs must be
// destroyed although all of libvirtd's workers wait for it.
const transientTime = time.Second

// IsTransient reports whether a domain does not have a definition that outlives its run. It reports
// false if libvirtd does not answer in time.
func IsTransient(ctx context.Context, l Libvirtd, id string) bool {
	ctx, cancel := context.WithTimeout(ctx, transientTime)
	defer cancel()
	args, err := wire.AppendDomain(nil, "", id)
	if err != nil {
		return false
	}
	reply, err := l.Ask(ctx, isPersistent, args)
	if err != nil {
		return false
	}
	d := wire.Decode(reply)
	return d.Uint32() == 0 && d.Err() == nil
}

// sizeTime bounds libvirtd's answer about the size of a disk. libvirtd waits for the guest's
// monitor, which may be busy, or hang.
const sizeTime = 2 * time.Second

// Shrinks reports whether a call may make a disk smaller. It reports false if libvirtd answers that
// the disk has at most the new size. It also reports false if libvirtd answers with an error,
// unless the client may not read the size. If libvirtd does not answer, it reports true: libvirtd
// would make the call as soon as the guest's monitor is free.
func Shrinks(ctx context.Context, l Libvirtd, c call.Call) bool {
	ctx, cancel := context.WithTimeout(ctx, sizeTime)
	defer cancel()
	args, err := wire.AppendDomain(nil, "", c.UUID)
	if err != nil {
		return true
	}
	reply, err := l.Ask(ctx, blockInfo, wire.AppendUint32(wire.AppendString(args, c.Disk), 0))
	if e, isTheirs := errors.AsType[*wire.Error](err); isTheirs {
		return e.Code == wire.CodeAccessDenied
	}
	if err != nil {
		return true
	}
	d := wire.Decode(reply)
	d.Uint64() // the disk's allocation
	capacity := d.Uint64()
	return d.Err() != nil || c.Size < capacity
}

// domains returns the domains that the client may see, by UUID. The value is 0 for a domain that is
// off.
func domains(ctx context.Context, l Libvirtd) map[string]uint32 {
	const wanted, all = 1, 0
	reply, err := l.Ask(ctx, listDomains, wire.AppendUint32(wire.AppendUint32(nil, wanted), all))
	if err != nil {
		return nil
	}
	d := wire.Decode(reply)
	found := map[string]uint32{}
	for n := d.Uint32(); n > 0 && d.Err() == nil; n-- {
		_ = d.String()
		id, run := d.UUID(), d.Uint32()
		found[id] = run + 1 // run is -1 for a domain that is off
	}
	if d.Err() != nil {
		return nil
	}
	return found
}

// pathOf returns the path of a volume; "" if libvirtd does not return it.
func pathOf(ctx context.Context, l Libvirtd, pool, name string) string {
	reply, err := l.Ask(ctx, volumePath, appendVolume(pool, name))
	if err != nil {
		return ""
	}
	return wire.Decode(reply).String()
}

func appendVolume(pool, name string) []byte {
	return wire.AppendString(wire.AppendString(wire.AppendString(nil, pool), name), "")
}

// backingOf returns the path of the backing file of the volume at a path. It returns "" if the
// volume is not an overlay, or libvirtd does not have such a volume.
func backingOf(ctx context.Context, l Libvirtd, path string) string {
	reply, err := l.Ask(ctx, volumeByPath, wire.AppendString(nil, path))
	if err != nil {
		return ""
	}
	d := wire.Decode(reply)
	pool, name := d.String(), d.String()
	if d.Err() != nil {
		return ""
	}
	var volume struct {
		Backing string `xml:"backingStore>path"`
	}
	if askXML(ctx, l, volumeXML, appendVolume(pool, name), &volume) != nil {
		return ""
	}
	return volume.Backing
}

// A poolDocument is the part of a pool's XML that tells where its volumes are.
type poolDocument struct {
	Type   string `xml:"type,attr"`
	Name   string `xml:"name"`
	Target string `xml:"target>path"`
	Source struct {
		Name    string `xml:"name"`
		Devices []struct {
			Path string `xml:"path,attr"`
		} `xml:"device"`
	} `xml:"source"`
}

func describePool(ctx context.Context, l Libvirtd, pool call.Pool) (poolDocument, error) {
	var document poolDocument
	if pool.XML != "" {
		err := xml.Unmarshal([]byte(pool.XML), &document)
		return document, err
	}
	raw, _ := uuid.Parse(pool.UUID) // it was read from a call
	err := askXML(ctx, l, poolXML, append(wire.AppendString(nil, pool.Name), raw[:]...), &document)
	return document, err
}

// askXML makes a call that has flags and returns XML.
func askXML(ctx context.Context, l Libvirtd, procedure uint32, args []byte, document any) error {
	reply, err := l.Ask(ctx, procedure, wire.AppendUint32(args, 0))
	if err != nil {
		return err
	}
	d := wire.Decode(reply)
	text := d.Opaque()
	if err := d.Err(); err != nil {
		return err
	}
	return xml.Unmarshal(text, document)
}
