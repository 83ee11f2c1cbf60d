package call

import (
	"encoding/xml"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/stopguard/stopguard/internal/gate/wire"
)

// A Call has everything about a client's call of libvirtd that a decision needs.
type Call struct {
	Procedure     string      // Procedure is the procedure's name, such as DOMAIN_DESTROY_FLAGS.
	Operations    []Operation // Operations are decided one by one; empty if the call may pass.
	Deferred      bool        // Deferred is set if the call only schedules the operation, which cannot be refused later. The domain may be off.
	Live          bool        // Live is set if libvirtd refuses the call for a domain that does not run.
	EndsTransient bool        // EndsTransient is set if a transient domain is gone after the call, which is then also a delete.
	IfMarkRemoved bool        // IfMarkRemoved is set if Modify counts only if the domain loses its marks or its name; see Keeps. For NewDomain, Delete likewise.
	Subject       Subject
	UUID          string   // UUID is the UUID of OneDomain.
	Name          string   // Name is the name of OneDomain as the client gives it. libvirtd ignores it, but for an error.
	XML           string   // XML is that of NewDefinition and NewDomain, or the new XML of OneDomain's run; "" for no change.
	PersistentXML string   // PersistentXML is OneDomain's new definition for later starts; "" for no change.
	NewName       string   // NewName is OneDomain's new name; "" for no change.
	Flags         []string // Flags are the names of the flags that are set; never nil.
	Pool          Pool     // Pool is the pool of Storage.
	Volume        string   // Volume is the name of the volume in the pool; "" for all volumes.
	Disk          string   // Disk is the disk that is to be resized to Size: a path or a target; "" for other calls.
	Size          uint64   // Size is in bytes.
	Alias         string   // Alias is the alias of the device to detach, which may be a disk; "" for other calls.
	Command       string   // Command is the text for the monitor or the guest agent; "" for other calls.
	Destination   string   // Destination is the destination of a migration; "" if the call does not name it.
}

// A Pool identifies a storage pool: by its name in calls about a volume, and by its UUID in calls
// about the pool.
type Pool struct {
	Name, UUID  string
	XML         string // XML describes a pool that the call creates; "" for a pool that libvirtd has.
	OnlyDevices bool   // OnlyDevices is set if the call writes to the pool's devices, but not to its volumes.
}

// Read reads a call that is to be held. args are the bytes behind the header, and behind the number
// of descriptors if the call has one. If they do not have libvirt's form, Read returns an error,
// because the domain of the call is unknown.
func Read(program, procedure uint32, args []byte) (Call, error) {
	r := table[program][procedure]
	if r == nil || len(r.asks) == 0 {
		return Call{}, fmt.Errorf("%s is not to be read; report this", Name(program, procedure))
	}
	a, err := r.read(args)
	if err != nil {
		return Call{}, err
	}
	c := Call{Procedure: r.name, Deferred: r.deferred, Live: r.live && a.flags&r.offlineFlags == 0, EndsTransient: r.endsTransient, IfMarkRemoved: r.ifMarkRemoved, Subject: r.subject, UUID: a.uuid, Name: a.name, XML: a.xml, Pool: a.pool, Volume: a.volume, Flags: r.flags.of(a.flags)}
	for _, ask := range r.asks {
		if (ask.with == 0 || a.flags&ask.with != 0) && a.flags&ask.without == 0 && !slices.Contains(c.Operations, ask.operation) {
			c.Operations = append(c.Operations, ask.operation)
		}
	}
	if r.refine != nil {
		r.refine(a, &c)
	}
	return c, nil
}

// Check returns the reason for which no client may make the call that is to be inspected; nil if it
// may pass. args is as for [Read].
func Check(program, procedure uint32, args []byte) error {
	r := table[program][procedure]
	if r == nil || r.check == nil {
		return fmt.Errorf("%s is not to be inspected; report this", Name(program, procedure))
	}
	a, err := r.read(args)
	if err != nil {
		return err
	}
	return r.check(a)
}

func (r *row) read(args []byte) (arguments, error) {
	a, err := read(r.args, args)
	if errors.Is(err, wire.ErrArguments) {
		err = fmt.Errorf("the arguments of %s are not as libvirt 9.0.0 has them; look at the client", r.name)
	}
	return a, err
}

func unnamed(program, procedure uint32) string {
	switch program {
	case Remote:
		return fmt.Sprintf("procedure %d", procedure)
	case QEMU:
		return fmt.Sprintf("QEMU procedure %d", procedure)
	}
	return fmt.Sprintf("procedure %d of program %#x", procedure, program)
}

// setRestoredXML sets the XML that replaces the saved one.
func setRestoredXML(a arguments, c *Call) { c.XML = a.params["dxml"] }

// passOtherMetadata lets a call pass that changes metadata other than the mark.
func passOtherMetadata(a arguments, c *Call) {
	const element = 2
	if a.numbers[0] != element || a.strings[2] != Mark {
		c.Operations = nil
	}
}

// passOtherDevices lets a call pass that is about a device other than a disk. libvirtd knows a
// device by the name of its element.
func passOtherDevices(a arguments, c *Call) {
	if name, err := rootName(a.strings[0]); err == nil && name != "disk" {
		c.Operations = nil
	}
}

// rootName returns the name of an XML document's root element.
func rootName(document string) (string, error) {
	d := xml.NewDecoder(strings.NewReader(document))
	for {
		token, err := d.RawToken()
		if err != nil {
			return "", err
		}
		if start, ok := token.(xml.StartElement); ok {
			return start.Name.Local, nil
		}
	}
}

// setAlias sets the device's alias. The domain's XML tells whether the device is a disk; see
// [Call.On].
func setAlias(a arguments, c *Call) { c.Alias = a.strings[0] }

// setSize sets the disk and its new size. The gate asks libvirtd for the present size.
func setSize(a arguments, c *Call) {
	c.Disk, c.Size = a.strings[0], a.numbers[0]
	if a.flags&resizeBytes == 0 {
		c.Size <<= 10
	}
}

// setBuild sets OnlyDevices for a build without overwrite, which leaves the volumes as they are.
func setBuild(a arguments, c *Call) { c.Pool.OnlyDevices = a.flags&poolOverwrite == 0 }

// setCreate is setBuild for the start of a pool, whose flags are others.
func setCreate(a arguments, c *Call) { c.Pool.OnlyDevices = a.flags&createOverwrite == 0 }

// setNewPool sets the pool that the client describes.
func setNewPool(a arguments, c *Call) {
	setCreate(a, c)
	c.Pool.XML = a.strings[0]
}

// refineSuspend makes a suspend to disk also a stop, because the domain's process ends.
func refineSuspend(a arguments, c *Call) {
	const disk = 1
	if a.numbers[0] == disk {
		c.Operations = stopsAndPauses
	}
}

// refineLifecycle makes a call that sets on_reboot to another value than "restart" also a stop:
// every later reset would end the domain.
func refineLifecycle(a arguments, c *Call) {
	const reboot, restart = 1, 1
	if a.numbers[0] == reboot && a.numbers[1] != restart && a.flags != onlyConfig {
		c.Operations = []Operation{Stop, Modify}
	}
}

// setMonitorCommand sets a monitor command and its operations.
func setMonitorCommand(a arguments, c *Call) {
	c.Command = a.strings[0]
	read := qmp
	if a.flags&monitorHMP != 0 {
		read = hmp
	}
	c.Operations = read(c.Command)
}

// setAgentCommand sets a command for the guest agent and its operations.
func setAgentCommand(a arguments, c *Call) {
	c.Command = a.strings[0]
	c.Operations = agent(c.Command)
}
