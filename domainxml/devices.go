package domainxml

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"strconv"

	"github.com/stopguard/stopguard/internal/uuid"
)

// A Disk is a <disk>. A disk of an unknown type has no source.
type Disk struct {
	// Device is disk, cdrom, floppy or lun.
	Device string
	// Type is the kind of the source: file, block, dir, network, volume, nvme, vhostuser,
	// vhostvdpa, ...
	Type string
	// Source names the source: a path, PROTOCOL:NAME, POOL/VOLUME or a PCI address; "" for an empty
	// drive.
	Source string
	// Target is libvirt's name for the disk, such as vda. Bus is virtio, scsi, sata, ...; if the
	// document does not say, it is libvirt's default for the target.
	Target, Bus string
	// ReadOnly is always set for a cdrom, as in libvirt.
	ReadOnly, Shareable bool
	Serial              string
	// Mirrored is set if a job copies the disk. MirrorJob is copy or active-commit then.
	Mirrored  bool
	MirrorJob string
}

// An Interface is an <interface>. An interface of an unknown type has no source.
type Interface struct {
	// Type is network, bridge, direct, vhostuser, hostdev, ..., and user if the document does not
	// say.
	Type string
	// MAC is the address as it is written. Model is virtio, e1000e, ...
	MAC, Model string
	// Source is the network, bridge, device, socket's path, ADDRESS:PORT or PCI address that the
	// interface is attached to.
	Source string
	// Target is the device on the host, such as vnet0.
	Target string
}

// A Hostdev is a <hostdev>. A device of an unknown type has no source.
type Hostdev struct {
	// Mode is subsystem, which is the default, or capabilities. Type is pci, usb, scsi, scsi_host
	// or mdev for the first, and storage, misc or net for the second.
	Type, Mode string
	// Source names the device on the host: a PCI address, VENDOR:PRODUCT or BUS/DEVICE, a UUID, a
	// device's path, ... Numbers have the form that libvirt's own XML gives them.
	Source string
}

// device reads the device whose start tag was the last token.
func (p *pass) device() error {
	if p.name.Space != "" {
		return nil
	}
	switch p.name.Local {
	case "disk":
		d := Disk{Type: "file", Device: p.value("device")}
		p.read("type", &d.Type)
		source := source{}
		err := p.visitChildren(func(parent string) { d.read(p, parent); source.read(p, parent) }, &d.Serial, "serial")
		d.setDefaults()
		d.Source = diskSource(d.Type, source)
		p.d.Disks = append(p.d.Disks, d)
		return err
	case "interface":
		i := Interface{Type: p.value("type")}
		source := source{}
		err := p.visitChildren(func(parent string) { i.read(p, parent); source.read(p, parent) }, nil)
		i.setDefaults()
		i.Source = interfaceSource(i.Type, source)
		p.d.Interfaces = append(p.d.Interfaces, i)
		return err
	case "hostdev":
		h := Hostdev{Type: p.value("type"), Mode: p.value("mode")}
		source := source{}
		err := p.visitChildren(func(parent string) { source.read(p, parent) }, &source.text, "block", "char", "interface")
		h.setDefaults()
		h.Source = hostdevSource(h, source)
		p.d.Hostdevs = append(p.d.Hostdevs, h)
		return err
	}
	return nil
}

// visitChildren calls visit at each start tag of the device's children, and of its grandchildren
// with their parent's name, up to the device's end. The text of an element with one of the names
// goes to text.
func (p *pass) visitChildren(visit func(parent string), text *string, names ...string) error {
	device := p.depth()
	foreign := 0 // the depth of the enclosing element of another namespace, or 0
	inText := 0
	for p.depth() >= device {
		k, err := p.next()
		if err != nil {
			return err
		}
		depth := p.depth()
		switch {
		case k == endElement:
			if depth < foreign {
				foreign = 0
			}
			if depth < inText {
				inText = 0
			}
		case foreign > 0:
		case k == charData && inText > 0 && depth == inText:
			*text += p.text
		case k != startElement:
		case p.name.Space != "":
			foreign = depth
		case depth <= device+2:
			parent := ""
			if depth == device+2 {
				parent = p.open[device].name.Local
			}
			visit(parent)
			for _, name := range names {
				if p.name.Local == name && (parent == "") == (name == "serial") && (parent == "" || parent == "source") {
					inText, *text = depth, ""
				}
			}
		}
	}
	return nil
}

func (d *Disk) read(p *pass, parent string) {
	if parent != "" {
		return
	}
	switch p.name.Local {
	case "target":
		p.read("dev", &d.Target)
		p.read("bus", &d.Bus)
	case "readonly":
		d.ReadOnly = true
	case "shareable":
		d.Shareable = true
	case "mirror":
		d.Mirrored = true
		p.read("job", &d.MirrorJob)
	}
}

func (i *Interface) read(p *pass, parent string) {
	if parent != "" {
		return
	}
	switch p.name.Local {
	case "mac":
		p.read("address", &i.MAC)
	case "target":
		p.read("dev", &i.Target)
	case "model":
		p.read("type", &i.Model)
	}
}

// A source is the <source> of a device, with the attributes of its children that name something.
type source struct {
	there           bool
	attr            []xml.Attr
	addressed       bool
	address         []xml.Attr
	vendor, product []xml.Attr
	adapter         []xml.Attr
	text            string // of <block>, <char> or <interface>
}

func (s *source) read(p *pass, parent string) {
	store := func(to *[]xml.Attr) { *to = append([]xml.Attr{}, p.attr...) }
	switch {
	case parent == "" && p.name.Local == "source":
		s.there = true
		store(&s.attr)
	case parent != "source":
	case p.name.Local == "address":
		s.addressed = true
		store(&s.address)
	case p.name.Local == "vendor":
		store(&s.vendor)
	case p.name.Local == "product":
		store(&s.product)
	case p.name.Local == "adapter":
		store(&s.adapter)
	}
}

func diskSource(kind string, s source) string {
	switch kind {
	case "file":
		return value(s.attr, "file")
	case "block", "vhostvdpa":
		return value(s.attr, "dev")
	case "dir":
		return value(s.attr, "dir")
	case "network":
		return value(s.attr, "protocol") + ":" + value(s.attr, "name")
	case "volume":
		return value(s.attr, "pool") + "/" + value(s.attr, "volume")
	case "nvme":
		if value(s.attr, "type") == "pci" {
			return pciAddress(s)
		}
	case "vhostuser":
		return socketPath(s)
	}
	return ""
}

func interfaceSource(kind string, s source) string {
	switch kind {
	case "network":
		return value(s.attr, "network")
	case "bridge":
		return value(s.attr, "bridge")
	case "direct", "user", "vdpa":
		return value(s.attr, "dev")
	case "vhostuser":
		if value(s.attr, "dev") == "" {
			return socketPath(s)
		}
	case "internal":
		return value(s.attr, "name")
	case "server", "client", "mcast", "udp":
		return value(s.attr, "address") + ":" + strconv.FormatUint(number64(value(s.attr, "port"), 10), 10)
	case "hostdev":
		if value(s.address, "type") == "pci" {
			return pciAddress(s)
		}
	case "vds":
		return value(s.attr, "portgroupid")
	}
	return ""
}

func hostdevSource(h Hostdev, s source) string {
	switch h.Mode + "/" + h.Type {
	case "subsystem/pci":
		return pciAddress(s)
	case "subsystem/usb":
		switch {
		case s.vendor != nil && s.product != nil:
			return fmt.Sprintf("%04x:%04x", number64(value(s.vendor, "id"), 0), number64(value(s.product, "id"), 0))
		case s.addressed:
			return fmt.Sprintf("%03d/%03d", number64(value(s.address, "bus"), 0), number64(value(s.address, "device"), 0))
		}
	case "subsystem/scsi":
		switch value(s.attr, "protocol") {
		case "iscsi":
			return "iscsi:" + value(s.attr, "name")
		case "", "adapter":
			name := value(s.adapter, "name")
			if s.addressed {
				name = fmt.Sprintf("%s:%d:%d:%d", name,
					number64(value(s.address, "bus"), 0), number64(value(s.address, "target"), 0), number64(value(s.address, "unit"), 0))
			}
			return name
		}
	case "subsystem/scsi_host":
		return value(s.attr, "wwpn")
	case "subsystem/mdev":
		id := value(s.address, "uuid")
		return cmp.Or(uuid.Canonical(id), id)
	case "capabilities/storage", "capabilities/misc", "capabilities/net":
		return s.text
	}
	return ""
}

// pciAddress returns an address in the form of lspci, such as 0000:3b:00.0.
func pciAddress(s source) string {
	if !s.addressed {
		return ""
	}
	at := func(name string) uint64 { return number64(value(s.address, name), 0) }
	return fmt.Sprintf("%04x:%02x:%02x.%x", at("domain"), at("bus"), at("slot"), at("function"))
}

// socketPath returns the path of a Unix socket, which is a source's default type.
func socketPath(s source) string {
	if kind := value(s.attr, "type"); s.there && (kind == "" || kind == "unix") {
		return value(s.attr, "path")
	}
	return ""
}

// number64 parses a number that is part of a name; 0 if it is malformed.
func number64(s string, base int) uint64 {
	n, err := strconv.ParseUint(s, base, 64)
	if err != nil {
		return 0
	}
	return n
}

// read stores an attribute of the last start tag if it is present.
func (p *pass) read(name string, to *string) {
	for _, a := range p.attr {
		if a.Name == (xml.Name{Local: name}) {
			*to = a.Value
		}
	}
}

func value(attr []xml.Attr, name string) string {
	for _, a := range attr {
		if a.Name == (xml.Name{Local: name}) {
			return a.Value
		}
	}
	return ""
}
