package policy

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"libvirt.org/go/libvirtxml"
)

func diskTerm(d libvirtxml.DomainDisk, jobs map[string]string) *ast.Term {
	kind, source := diskSource(d.Source)
	var target, bus string
	if d.Target != nil {
		target, bus = d.Target.Dev, d.Target.Bus
	}
	job := jobs[target]
	if d.Mirror != nil && job == "" {
		if job = d.Mirror.Job; job == "" {
			job = "copy" // libvirt before 1.2.7 wrote no job
		}
	}
	device := d.Device
	if device == "" {
		device = "disk"
	}
	return record(
		field{"device", text(device)},
		field{"type", text(kind)},
		field{"source", text(source)},
		field{"target", text(target)},
		field{"bus", text(bus)},
		field{"read_only", flag(d.ReadOnly != nil)},
		field{"shareable", flag(d.Shareable != nil)},
		field{"serial", text(d.Serial)},
		field{"job", text(job)},
	)
}

// diskSource gives the type of a disk's source and one string that names it.
func diskSource(s *libvirtxml.DomainDiskSource) (kind, name string) {
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
			return "nvme", pciAddress(p.Address)
		}
		return "nvme", ""
	case s.VHostUser != nil:
		return "vhostuser", socketPath((*libvirtxml.DomainChardevSource)(s.VHostUser))
	case s.VHostVDPA != nil:
		return "vhostvdpa", s.VHostVDPA.Dev
	}
	return "", ""
}

func interfaceTerm(i libvirtxml.DomainInterface) *ast.Term {
	kind, source := interfaceSource(i.Source)
	var mac, target, model string
	if i.MAC != nil {
		mac = i.MAC.Address
	}
	if i.Target != nil {
		target = i.Target.Dev
	}
	if i.Model != nil {
		model = i.Model.Type
	}
	return record(
		field{"type", text(kind)},
		field{"mac", text(mac)},
		field{"source", text(source)},
		field{"target", text(target)},
		field{"model", text(model)},
	)
}

// interfaceSource gives the type of an interface and one string that names what it is attached to.
func interfaceSource(s *libvirtxml.DomainInterfaceSource) (kind, name string) {
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
		return "vhostuser", socketPath(s.VHostUser.Chardev)
	case s.VDPA != nil:
		return "vdpa", s.VDPA.Device
	case s.Internal != nil:
		return "internal", s.Internal.Name
	case s.Server != nil:
		return "server", endpoint(s.Server.Address, s.Server.Port)
	case s.Client != nil:
		return "client", endpoint(s.Client.Address, s.Client.Port)
	case s.MCast != nil:
		return "mcast", endpoint(s.MCast.Address, s.MCast.Port)
	case s.UDP != nil:
		return "udp", endpoint(s.UDP.Address, s.UDP.Port)
	case s.Hostdev != nil:
		if p := s.Hostdev.PCI; p != nil {
			return "hostdev", pciAddress(p.Address)
		}
		return "hostdev", ""
	case s.Null != nil:
		return "null", ""
	case s.VDS != nil:
		return "vds", s.VDS.PortGroupID
	}
	return "", ""
}

func hostdevTerm(h libvirtxml.DomainHostdev) *ast.Term {
	kind, mode, source := hostdevSource(h)
	return record(
		field{"type", text(kind)},
		field{"mode", text(mode)},
		field{"source", text(source)},
	)
}

// hostdevSource gives the type and mode of a host device and one string that names it on the host.
func hostdevSource(h libvirtxml.DomainHostdev) (kind, mode, name string) {
	const subsystem, capabilities = "subsystem", "capabilities"
	switch {
	case h.SubsysPCI != nil:
		if s := h.SubsysPCI.Source; s != nil {
			name = pciAddress(s.Address)
		}
		return "pci", subsystem, name
	case h.SubsysUSB != nil:
		if s := h.SubsysUSB.Source; s != nil {
			name = usbAddress(s)
		}
		return "usb", subsystem, name
	case h.SubsysSCSI != nil:
		if s := h.SubsysSCSI.Source; s != nil {
			name = scsiAddress(s)
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

func usbAddress(s *libvirtxml.DomainHostdevSubsysUSBSource) string {
	if s.Vendor != nil && s.Product != nil {
		return strings.TrimPrefix(s.Vendor.ID, "0x") + ":" + strings.TrimPrefix(s.Product.ID, "0x")
	}
	if a := s.Address; a != nil {
		return fmt.Sprintf("%03d/%03d", value(a.Bus), value(a.Device))
	}
	return ""
}

func scsiAddress(s *libvirtxml.DomainHostdevSubsysSCSISource) string {
	switch {
	case s.Host != nil:
		name := ""
		if s.Host.Adapter != nil {
			name = s.Host.Adapter.Name
		}
		if a := s.Host.Address; a != nil {
			name = fmt.Sprintf("%s:%d:%d:%d", name, value(a.Bus), value(a.Target), value(a.Unit))
		}
		return name
	case s.ISCSI != nil:
		return "iscsi:" + s.ISCSI.Name
	}
	return ""
}

// pciAddress writes an address as lspci does: 0000:3b:00.0.
func pciAddress(a *libvirtxml.DomainAddressPCI) string {
	if a == nil {
		return ""
	}
	return fmt.Sprintf("%04x:%02x:%02x.%x", value(a.Domain), value(a.Bus), value(a.Slot), value(a.Function))
}

func socketPath(c *libvirtxml.DomainChardevSource) string {
	if c != nil && c.UNIX != nil {
		return c.UNIX.Path
	}
	return ""
}

func endpoint(address string, port uint) string {
	return address + ":" + strconv.FormatUint(uint64(port), 10)
}

func value(n *uint) uint {
	if n == nil {
		return 0
	}
	return *n
}
