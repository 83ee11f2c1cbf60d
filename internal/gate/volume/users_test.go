package volume

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/stopguard/stopguard/internal/gate/call"
	"github.com/stopguard/stopguard/internal/gate/wire"
	"github.com/stopguard/stopguard/internal/uuid"
)

const (
	web = "5b4d5b3c-6f53-4b8a-8a5e-9f7f6b6a0c11"
	db  = "5b4d5b3c-6f53-4b8a-8a5e-9f7f6b6a0c12"
)

// A host is what a libvirtd knows. The real one is asked in internal/e2e/gate.
type host struct {
	running, defined map[string]string // XML by UUID
	pools            map[string]string // XML by UUID
	volumes          map[string]string // paths by POOL/NAME
	backing          map[string]string // paths by path
}

var errUnknown = errors.New("libvirtd does not know it")

func (h host) XML(_ context.Context, id string, flags uint32) ([]byte, error) {
	xml, runs := h.running[id]
	if !runs || flags == inactive {
		xml = h.defined[id]
	}
	if xml == "" {
		return nil, errUnknown
	}
	return []byte(xml), nil
}

func (h host) Ask(_ context.Context, procedure uint32, args []byte) ([]byte, error) {
	d := wire.Decode(args)
	text := func(s string) ([]byte, error) {
		if s == "" {
			return nil, errUnknown
		}
		return wire.AppendString(nil, s), nil
	}
	switch procedure {
	case volumePath:
		return text(h.volumes[d.String()+"/"+d.String()])
	case volumeByPath:
		path := d.String()
		for id, at := range h.volumes {
			if pool, name, _ := strings.Cut(id, "/"); at == path {
				return appendVolume(pool, name), nil
			}
		}
	case volumeXML:
		below := h.backing[h.volumes[d.String()+"/"+d.String()]]
		if below != "" {
			below = "<backingStore><path>" + below + "</path></backingStore>"
		}
		return text("<volume><target><path>/x</path></target>" + below + "</volume>")
	case poolXML:
		_ = d.String()
		return text(h.pools[d.UUID()])
	case listDomains:
		list := []byte{}
		n := uint32(0)
		for id := range h.defined {
			raw, _ := uuid.Parse(id)
			run := uint32(0xffffffff)
			if h.running[id] != "" {
				run = 7
			}
			list = wire.AppendUint32(append(wire.AppendString(list, "x"), raw[:]...), run)
			n++
		}
		return append(wire.AppendUint32(nil, n), wire.AppendUint32(list, n)...), nil
	}
	return nil, errUnknown
}

func domain(id, disks string) string {
	return "<domain type='kvm'><name>x</name><uuid>" + id + "</uuid><devices>" + disks + "</devices></domain>"
}

func file(path, more string) string {
	return "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='" + path + "'/><target dev='vda'/>" + more + "</disk>"
}

func TestUsersAreFound(t *testing.T) {
	const pool = "0f3c8a52-6d0e-4c1b-9a77-3b2f4de81c05"
	const at = "/images/web.img"
	volumes := map[string]string{"images/web.img": at, "images/base.img": "/images/base.img", "images/top.img": "/images/top.img", "images/mid.img": "/images/mid.img", "ceph/web": "ceph/web"}
	only := func(xml string) map[string]string { return map[string]string{web: domain(web, xml)} }
	for _, tt := range []struct {
		why, volume string // POOL/NAME; "" for the pool
		host        host
		isUsed      bool
	}{
		{"a domain that is off", "images/web.img", host{defined: only(file(at, ""))}, true},
		{"another path", "images/web.img", host{defined: only(file(at+".old", ""))}, false},
		{"the path in another way of writing", "images/web.img", host{defined: only(file("/images//web.img", ""))}, true},
		{"a block device", "images/web.img", host{defined: only("<disk type='block' device='disk'><source dev='" + at + "'/><target dev='vda'/></disk>")}, true},
		{"pool and name", "images/web.img", host{defined: only("<disk type='volume' device='disk'><source pool='images' volume='web.img'/><target dev='vda'/></disk>")}, true},
		{"another pool's", "images/web.img", host{defined: only("<disk type='volume' device='disk'><source pool='other' volume='web.img'/><target dev='vda'/></disk>")}, false},
		{"an image of Ceph's", "ceph/web", host{defined: only("<disk type='network' device='disk'><source protocol='rbd' name='ceph/web'/><target dev='vda'/></disk>")}, true},
		{"a drive for media", "images/web.img", host{defined: only("<disk type='file' device='cdrom'><source file='" + at + "'/><target dev='hda'/></disk>")}, false},
		{"below the disk of one that runs", "images/base.img", host{defined: only(file("/images/top.img", "")),
			running: only(file("/images/top.img", "<backingStore type='file'><format type='qcow2'/><source file='/images/mid.img'/><backingStore type='file'><format type='raw'/><source file='/images/base.img'/></backingStore></backingStore>"))}, true},
		{"what is copied to", "images/web.img", host{defined: only(file("/images/top.img", "")),
			running: only(file("/images/top.img", "<mirror type='file' job='copy' ready='yes'><format type='raw'/><source file='"+at+"'/></mirror>"))}, true},
		{"at the next start only", "images/web.img", host{defined: only(file(at, "")), running: only(file("/images/top.img", ""))}, true},
		{"in this run only", "images/web.img", host{defined: only(file("/images/top.img", "")), running: only(file(at, ""))}, true},
		{"below the disk of one that is off", "images/base.img", host{defined: only(file("/images/top.img", "")),
			backing: map[string]string{"/images/top.img": "/images/mid.img", "/images/mid.img": "/images/base.img"}}, true},
		{"overlays in a circle", "images/base.img", host{defined: only(file("/images/top.img", "")),
			backing: map[string]string{"/images/top.img": "/images/mid.img", "/images/mid.img": "/images/top.img"}}, false},
		{"below an overlay that is in no pool", "images/base.img", host{defined: only(file("/elsewhere/top.img", ""))}, false},
		{"a volume that is not there", "images/none.img", host{defined: only(file("/images/none.img", ""))}, false},

		{"a pool that is a folder", "", host{defined: only(file(at, "")), pools: map[string]string{pool: "<pool type='dir'><name>images</name><target><path>/images</path></target></pool>"}}, true},
		{"a pool beside it", "", host{defined: only(file(at, "")), pools: map[string]string{pool: "<pool type='dir'><name>ima</name><target><path>/ima</path></target></pool>"}}, false},
		{"a volume group", "", host{defined: only("<disk type='block' device='disk'><source dev='/dev/vg0/web'/><target dev='vda'/></disk>"), pools: map[string]string{pool: "<pool type='logical'><name>vg0</name><target><path>/dev/vg0</path></target></pool>"}}, true},
		{"a disk with partitions", "", host{defined: only("<disk type='block' device='disk'><source dev='/dev/sdb1'/><target dev='vda'/></disk>"), pools: map[string]string{pool: "<pool type='disk'><name>sdb</name><source><device path='/dev/sdb'/></source><target><path>/dev</path></target></pool>"}}, true},
		{"the disk of a pool itself", "", host{defined: only("<disk type='block' device='disk'><source dev='/dev/sdb'/><target dev='vda'/></disk>"), pools: map[string]string{pool: "<pool type='disk'><name>sdb</name><source><device path='/dev/sdb'/></source><target><path>/dev</path></target></pool>"}}, true},
		{"the device that a pool's file system is made on", "", host{defined: only("<disk type='block' device='disk'><source dev='/dev/vg0/web'/><target dev='vda'/></disk>"), pools: map[string]string{pool: "<pool type='fs'><name>x</name><source><device path='/dev/vg0/web'/></source><target><path>/mnt</path></target></pool>"}}, true},
		{"the device that a volume group is made on", "", host{defined: only("<disk type='block' device='disk'><source dev='/dev/sdb'/><target dev='vda'/></disk>"), pools: map[string]string{pool: "<pool type='logical'><name>vg0</name><source><device path='/dev/sdb'/></source><target><path>/dev/vg0</path></target></pool>"}}, true},
		{"another device than the pool's", "", host{defined: only("<disk type='block' device='disk'><source dev='/dev/sdb1'/><target dev='vda'/></disk>"), pools: map[string]string{pool: "<pool type='logical'><name>vg0</name><source><device path='/dev/sdb'/></source><target><path>/dev/vg0</path></target></pool>"}}, false},
		{"the device of a pool that libvirt does not build", "", host{defined: only("<disk type='block' device='disk'><source dev='/dev/sdb'/><target dev='vda'/></disk>"), pools: map[string]string{pool: "<pool type='iscsi'><name>x</name><source><device path='/dev/sdb'/></source><target><path>/dev/disk/by-path</path></target></pool>"}}, false},
		{"a volume group with a longer name", "", host{defined: only("<disk type='block' device='disk'><source dev='/dev/vg01/web'/><target dev='vda'/></disk>"), pools: map[string]string{pool: "<pool type='logical'><name>vg0</name><target><path>/dev/vg0</path></target></pool>"}}, false},
		{"a partition of a disk with a longer name", "", host{defined: only("<disk type='block' device='disk'><source dev='/dev/sdba1'/><target dev='vda'/></disk>"), pools: map[string]string{pool: "<pool type='disk'><name>sdb</name><source><device path='/dev/sdb'/></source><target><path>/dev</path></target></pool>"}}, false},
		{"the disk beside it", "", host{defined: only("<disk type='block' device='disk'><source dev='/dev/sdc1'/><target dev='vda'/></disk>"), pools: map[string]string{pool: "<pool type='disk'><name>sdb</name><source><device path='/dev/sdb'/></source><target><path>/dev</path></target></pool>"}}, false},
		{"by the pool's name", "", host{defined: only("<disk type='volume' device='disk'><source pool='images' volume='web.img'/><target dev='vda'/></disk>"), pools: map[string]string{pool: "<pool type='dir'><name>images</name><target><path>/elsewhere</path></target></pool>"}}, true},
		{"a pool without a path", "", host{defined: only(file(at, "")), pools: map[string]string{pool: "<pool type='dir'><name>x</name></pool>"}}, false},
	} {
		t.Run(tt.why, func(t *testing.T) {
			h := tt.host
			h.volumes = volumes
			other := map[string]string{db: domain(db, file("/images/db.img", ""))}
			for id, xml := range h.defined {
				other[id] = xml
			}
			h.defined = other
			p, name := call.Pool{UUID: pool}, ""
			if tt.volume != "" {
				p.Name, name, _ = strings.Cut(tt.volume, "/")
			}
			users, err := Users(t.Context(), h, p, name)
			if err != nil {
				t.Fatal(err)
			}
			isDB := func(u User) bool { return u.UUID == db }
			if tt.why == "a pool that is a folder" { // the other domain has its disk there, too
				users = slices.DeleteFunc(users, isDB)
			}
			if got := len(users) > 0; got != tt.isUsed || got && (len(users) != 1 || users[0].UUID != web) {
				t.Errorf("%+v", users)
			}
			if len(users) == 1 && h.running[web] != "" && string(users[0].XML) != h.running[web] {
				t.Error("the XML is not that of the run")
			}
		})
	}
}

// A build without overwrite leaves the volumes of the pool alone, but not an image that libvirt
// takes for an empty device.
func TestABuildWithoutOverwriteIsOnThePoolsDevices(t *testing.T) {
	const pool = "0f3c8a52-6d0e-4c1b-9a77-3b2f4de81c05"
	device := "<source><device path='/images/web.img'/></source>"
	for _, tt := range []struct {
		why, pool string
		isUsed    bool
	}{
		{"the device is the domain's disk", "<pool type='disk'><name>x</name>" + device + "<target><path>/dev</path></target></pool>", true},
		{"for a volume group, likewise", "<pool type='logical'><name>x</name>" + device + "<target><path>/dev/x</path></target></pool>", true},
		{"for a file system, likewise", "<pool type='fs'><name>x</name>" + device + "<target><path>/mnt</path></target></pool>", true},
		{"the disk is in the pool's folder", "<pool type='dir'><name>images</name><target><path>/images</path></target></pool>", false},
		{"libvirt does not build such a pool", "<pool type='iscsi'><name>x</name>" + device + "<target><path>/dev</path></target></pool>", false},
	} {
		h := host{defined: map[string]string{web: domain(web, file("/images/web.img", ""))}, pools: map[string]string{pool: tt.pool}}
		users, err := Users(t.Context(), h, call.Pool{UUID: pool, OnlyDevices: true}, "")
		if got := len(users) > 0; err != nil || got != tt.isUsed {
			t.Errorf("%s: %+v, %v", tt.why, users, err)
		}
		users, err = Users(t.Context(), h, call.Pool{XML: tt.pool, OnlyDevices: true}, "")
		if got := len(users) > 0; err != nil || got != tt.isUsed {
			t.Errorf("%s, in a new pool: %+v, %v", tt.why, users, err)
		}
	}
	if _, err := Users(t.Context(), host{}, call.Pool{XML: "<?xml version='1.0' encoding='latin1'?><pool/>"}, ""); err == nil {
		t.Error("XML that only libvirt can read passes")
	}
}

// Otherwise a client with slow calls on its connection could have a protected domain's disk
// deleted.
func TestALibvirtdThatDoesNotTellTheUsersInTimeIsAnError(t *testing.T) {
	answering := host{defined: map[string]string{web: domain(web, file("/images/web.img", ""))}, volumes: map[string]string{"images/web.img": "/images/web.img"}}
	for _, silent := range []uint32{volumePath, listDomains, domainXML} {
		ctx, cancel := context.WithCancel(t.Context())
		users, err := Users(ctx, hanging{answering, silent, cancel}, call.Pool{Name: "images"}, "web.img")
		if err == nil || len(users) > 0 {
			t.Errorf("without an answer to procedure %d: %v, %v", silent, users, err)
		}
	}
}

// hanging does not answer one procedure. Its time ends then.
type hanging struct {
	host
	silent uint32
	end    func()
}

const domainXML = 14 // DOMAIN_GET_XML_DESC

func (h hanging) XML(ctx context.Context, id string, flags uint32) ([]byte, error) {
	if h.silent == domainXML {
		h.end()
		return nil, ctx.Err()
	}
	return h.host.XML(ctx, id, flags)
}

func (h hanging) Ask(ctx context.Context, procedure uint32, args []byte) ([]byte, error) {
	if h.silent == procedure {
		h.end()
		return nil, ctx.Err()
	}
	return h.host.Ask(ctx, procedure, args)
}

func TestAnOverlayThatIsUsedByManyIsLookedUpOnce(t *testing.T) {
	h := host{defined: map[string]string{}, volumes: map[string]string{"images/top.img": "/images/top.img", "images/base.img": "/images/base.img"}}
	for i := range 300 {
		id := "5b4d5b3c-6f53-4b8a-8a5e-" + strings.Repeat("0", 9) + string(rune('0'+i/100)) + string(rune('0'+i/10%10)) + string(rune('0'+i%10))
		h.defined[id] = domain(id, file("/images/top.img", ""))
	}
	c := &counter{Libvirtd: h}
	users, err := Users(t.Context(), c, call.Pool{Name: "images"}, "base.img")
	if err != nil || len(users) > 0 || c.lookups != 1 {
		t.Errorf("%d users, %d lookups, %v", len(users), c.lookups, err)
	}
}

type counter struct {
	Libvirtd
	lookups int
}

func (c *counter) Ask(ctx context.Context, procedure uint32, args []byte) ([]byte, error) {
	if procedure == volumeByPath {
		c.lookups++
	}
	return c.Libvirtd.Ask(ctx, procedure, args)
}

// A domain is not left out because its XML is too large, or cannot be parsed. Otherwise its owner
// could have its volumes deleted although it is protected.
func TestADomainThatCannotBeReadIsNotLeftOut(t *testing.T) {
	const mine, other = "1b4d5b3c-6f53-4b8a-8a5e-000000000001", "1b4d5b3c-6f53-4b8a-8a5e-000000000002"
	for _, tt := range []struct {
		why   string
		large map[uint32]bool // by the flags
		xml   string
		want  []string
		fails bool
	}{
		{"its run is too large", map[uint32]bool{0: true}, domain(mine, ""), []string{mine}, false},
		{"its next start is too large", map[uint32]bool{inactive: true}, domain(mine, ""), []string{mine}, false},
		{"it is not XML", nil, "<domain>", nil, true},
		{"it does not use the volume", nil, domain(mine, ""), nil, false},
	} {
		t.Run(tt.why, func(t *testing.T) {
			h := host{
				running: map[string]string{mine: tt.xml}, defined: map[string]string{mine: tt.xml, other: domain(other, "")},
				volumes: map[string]string{"images/a.img": "/images/a.img"},
			}
			users, err := Users(t.Context(), large{h, mine, tt.large}, call.Pool{Name: "images"}, "a.img")
			var got []string
			for _, u := range users {
				got = append(got, u.UUID)
				if u.XML != nil {
					t.Errorf("%s has XML", u.UUID)
				}
			}
			if !slices.Equal(got, tt.want) || (err != nil) != tt.fails {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
}

// A large host has a domain whose XML is too large.
type large struct {
	host
	id    string
	flags map[uint32]bool
}

func (l large) XML(ctx context.Context, id string, flags uint32) ([]byte, error) {
	if id == l.id && l.flags[flags] {
		return nil, ErrTooLarge
	}
	return l.host.XML(ctx, id, flags)
}
