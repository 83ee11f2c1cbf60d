package domainxml

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/google/go-cmp/cmp"
	"libvirt.org/go/libvirtxml"
)

// What libvirtxml makes of devices, to hold ours to it wherever it knows a kind of device.

func laxDisk(d libvirtxml.DomainDisk) Disk {
	disk := Disk{Device: d.Device, ReadOnly: d.ReadOnly != nil, Shareable: d.Shareable != nil, Serial: d.Serial}
	disk.Type, disk.Source = laxDiskSource(d.Source)
	if d.Target != nil {
		disk.Target, disk.Bus = d.Target.Dev, d.Target.Bus
	}
	if d.Mirror != nil {
		disk.Mirrored, disk.MirrorJob = true, d.Mirror.Job
	}
	disk.setDefaults()
	return disk
}

func laxInterface(i libvirtxml.DomainInterface) Interface {
	var n Interface
	n.Type, n.Source = laxInterfaceSource(i.Source)
	if i.MAC != nil {
		n.MAC = i.MAC.Address
	}
	if i.Target != nil {
		n.Target = i.Target.Dev
	}
	if i.Model != nil {
		n.Model = i.Model.Type
	}
	return n
}

func laxHostdev(h libvirtxml.DomainHostdev) Hostdev {
	var d Hostdev
	d.Type, d.Mode, d.Source = laxHostdevSource(h)
	return d
}

// compareViews returns the difference between libvirtxml's view and ours without what libvirtxml
// does not know: types without a name in its tables, defaults of a device's type, and numbers that
// it reads as decimal where libvirt takes any base.
func compareViews(lax, ours view) string {
	lax.Hostdevs = slices.Clone(lax.Hostdevs)
	ours = asKnown(ours)
	for i := range min(len(lax.Interfaces), len(ours.Interfaces)) {
		if lax.Interfaces[i].Type == "" {
			ours.Interfaces[i].Type, ours.Interfaces[i].Source = "", lax.Interfaces[i].Source
		}
	}
	for i := range min(len(lax.Hostdevs), len(ours.Hostdevs)) {
		switch l, o := &lax.Hostdevs[i], &ours.Hostdevs[i]; l.Type {
		case "":
			*o = Hostdev{}
		case "usb", "scsi", "mdev":
			l.Source, o.Source = "", ""
		}
	}
	return cmp.Diff(lax, ours)
}

// asKnown forgets what libvirtxml does: the types that it does not know.
func asKnown(v view) view {
	v.Disks, v.Interfaces, v.Hostdevs = slices.Clone(v.Disks), slices.Clone(v.Interfaces), slices.Clone(v.Hostdevs)
	for i := range v.Disks {
		if !slices.Contains(strings.Fields("file block dir network volume nvme vhostuser vhostvdpa"), v.Disks[i].Type) {
			v.Disks[i].Type = ""
		}
	}
	for i := range v.Interfaces {
		if !slices.Contains(strings.Fields("user ethernet vhostuser server client mcast network bridge internal direct hostdev udp vdpa null vds"), v.Interfaces[i].Type) {
			v.Interfaces[i].Type = ""
		}
	}
	for i, h := range v.Hostdevs {
		known := strings.Fields("subsystem/scsi subsystem/scsi_host subsystem/usb subsystem/pci subsystem/mdev capabilities/storage capabilities/misc capabilities/net")
		if !slices.Contains(known, h.Mode+"/"+h.Type) {
			v.Hostdevs[i].Type, v.Hostdevs[i].Mode = "", ""
		}
	}
	return v
}

// laxDiskSource returns the type of a disk's source and one string that names it.
func laxDiskSource(s *libvirtxml.DomainDiskSource) (kind, name string) {
	switch {
	case s == nil:
		return "file", "" // a drive without a medium
	case s.File != nil:
		return "file", s.File.File
	case s.Block != nil:
		return "block", s.Block.Dev
	case s.Dir != nil:
		return "dir", s.Dir.Dir
	case s.Network != nil:
		return "network", s.Network.Protocol + ":" + s.Network.Name
	case s.Volume != nil:
		return "volume", s.Volume.Pool + "/" + s.Volume.Volume
	case s.NVME != nil:
		if p := s.NVME.PCI; p != nil {
			return "nvme", laxPciAddress(p.Address)
		}
		return "nvme", ""
	case s.VHostUser != nil:
		return "vhostuser", laxSocketPath((*libvirtxml.DomainChardevSource)(s.VHostUser))
	case s.VHostVDPA != nil:
		return "vhostvdpa", s.VHostVDPA.Dev
	}
	return "", ""
}

// laxInterfaceSource returns the type of an interface and one string that names what it is attached
// to.
func laxInterfaceSource(s *libvirtxml.DomainInterfaceSource) (kind, name string) {
	switch {
	case s == nil:
		return "", ""
	case s.Network != nil:
		return "network", s.Network.Network
	case s.Bridge != nil:
		return "bridge", s.Bridge.Bridge
	case s.Direct != nil:
		return "direct", s.Direct.Dev
	case s.User != nil:
		return "user", s.User.Dev
	case s.Ethernet != nil:
		return "ethernet", ""
	case s.VHostUser != nil:
		return "vhostuser", laxSocketPath(s.VHostUser.Chardev)
	case s.VDPA != nil:
		return "vdpa", s.VDPA.Device
	case s.Internal != nil:
		return "internal", s.Internal.Name
	case s.Server != nil:
		return "server", laxEndpoint(s.Server.Address, s.Server.Port)
	case s.Client != nil:
		return "client", laxEndpoint(s.Client.Address, s.Client.Port)
	case s.MCast != nil:
		return "mcast", laxEndpoint(s.MCast.Address, s.MCast.Port)
	case s.UDP != nil:
		return "udp", laxEndpoint(s.UDP.Address, s.UDP.Port)
	case s.Hostdev != nil:
		if p := s.Hostdev.PCI; p != nil {
			return "hostdev", laxPciAddress(p.Address)
		}
		return "hostdev", ""
	case s.Null != nil:
		return "null", ""
	case s.VDS != nil:
		return "vds", s.VDS.PortGroupID
	}
	return "", ""
}

// laxHostdevSource returns the type and mode of a host device and one string that names it on the
// host.
func laxHostdevSource(h libvirtxml.DomainHostdev) (kind, mode, name string) {
	const subsystem, capabilities = "subsystem", "capabilities"
	switch {
	case h.SubsysPCI != nil:
		if s := h.SubsysPCI.Source; s != nil {
			name = laxPciAddress(s.Address)
		}
		return "pci", subsystem, name
	case h.SubsysUSB != nil:
		if s := h.SubsysUSB.Source; s != nil {
			name = laxUsbAddress(s)
		}
		return "usb", subsystem, name
	case h.SubsysSCSI != nil:
		if s := h.SubsysSCSI.Source; s != nil {
			name = laxScsiAddress(s)
		}
		return "scsi", subsystem, name
	case h.SubsysSCSIHost != nil:
		if s := h.SubsysSCSIHost.Source; s != nil {
			name = s.WWPN
		}
		return "scsi_host", subsystem, name
	case h.SubsysMDev != nil:
		if s := h.SubsysMDev.Source; s != nil && s.Address != nil {
			name = s.Address.UUID
		}
		return "mdev", subsystem, name
	case h.CapsStorage != nil:
		if s := h.CapsStorage.Source; s != nil {
			name = s.Block
		}
		return "storage", capabilities, name
	case h.CapsMisc != nil:
		if s := h.CapsMisc.Source; s != nil {
			name = s.Char
		}
		return "misc", capabilities, name
	case h.CapsNet != nil:
		if s := h.CapsNet.Source; s != nil {
			name = s.Interface
		}
		return "net", capabilities, name
	}
	return "", "", ""
}

func laxUsbAddress(s *libvirtxml.DomainHostdevSubsysUSBSource) string {
	if s.Vendor != nil && s.Product != nil {
		return strings.TrimPrefix(s.Vendor.ID, "0x") + ":" + strings.TrimPrefix(s.Product.ID, "0x")
	}
	if a := s.Address; a != nil {
		return fmt.Sprintf("%03d/%03d", laxValue(a.Bus), laxValue(a.Device))
	}
	return ""
}

func laxScsiAddress(s *libvirtxml.DomainHostdevSubsysSCSISource) string {
	switch {
	case s.Host != nil:
		name := ""
		if s.Host.Adapter != nil {
			name = s.Host.Adapter.Name
		}
		if a := s.Host.Address; a != nil {
			name = fmt.Sprintf("%s:%d:%d:%d", name, laxValue(a.Bus), laxValue(a.Target), laxValue(a.Unit))
		}
		return name
	case s.ISCSI != nil:
		return "iscsi:" + s.ISCSI.Name
	}
	return ""
}

// laxPciAddress writes an address as lspci does: 0000:3b:00.0.
func laxPciAddress(a *libvirtxml.DomainAddressPCI) string {
	if a == nil {
		return ""
	}
	return fmt.Sprintf("%04x:%02x:%02x.%x", laxValue(a.Domain), laxValue(a.Bus), laxValue(a.Slot), laxValue(a.Function))
}

func laxSocketPath(c *libvirtxml.DomainChardevSource) string {
	if c != nil && c.UNIX != nil {
		return c.UNIX.Path
	}
	return ""
}

func laxEndpoint(address string, port uint) string {
	return address + ":" + strconv.FormatUint(uint64(port), 10)
}

func laxValue(n *uint) uint {
	if n == nil {
		return 0
	}
	return *n
}
