package call

import (
	"encoding/xml"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/stopguard/stopguard/internal/gate/wire"
)

// A Call is a client's call of libvirtd, as far as it has to be decided.
type Call struct {
	Procedure     string      // Procedure is the procedure's name, such as DOMAIN_DESTROY_FLAGS.
	Operations    []Operation // Operations are decided one by one; none if the call may pass.
	Deferred      bool        // Deferred is set if the call only schedules the operation, which cannot be refused later: the domain may be off.
	Live          bool        // Live is set if libvirtd refuses the call for a domain that does not run.
	EndsTransient bool        // EndsTransient is set if a transient domain is gone after the call, which is a delete of it, too.
	IfMarkRemoved bool        // IfMarkRemoved is set if the call modifies only where the domain loses its marks or its name, and a NewDomain deletes only there; see Keeps.
	Subject       Subject
	UUID          string   // UUID is that of OneDomain.
	XML           string   // XML is that of NewDefinition and NewDomain, or what OneDomain is to be from then on; "" for no change.
	PersistentXML string   // PersistentXML is the definition that OneDomain starts with from then on; "" for no change.
	NewName       string   // NewName is OneDomain's name from then on; "" for no change.
	Flags         []string // Flags are those that are set, in words; never nil.
	Pool          Pool     // Pool is that of Storage.
	Volume        string   // Volume is the name of the volume in the pool; "" for all that is in it.
	Disk          string   // Disk is the disk that is to be resized to Size: a path or a target; "" for other calls.
	Size          uint64   // Size is in bytes.
	Alias         string   // Alias is that of the device that is detached, which may be a disk; "" for other calls.
	Command       string   // Command is the text for the monitor or the guest agent; "" for other calls.
	Destination   string   // Destination is where a migration goes, as far as the call says; "" if it does not.
}

// A Pool is a storage pool: by its name for a volume, and by its UUID for itself.
type Pool struct{ Name, UUID string }

// Read reads a call that is to be held. args are the bytes behind the header, and behind the number
// of descriptors if there is one. It is an error if they do not have libvirt's form: the domain of
// such a call is not known.
func Read(program, procedure uint32, args []byte) (Call, error) {
	r := table[program][procedure]
	if r == nil || len(r.asks) == 0 {
		return Call{}, fmt.Errorf("%s is not to be read; report this", Name(program, procedure))
	}
	a, err := r.read(args)
	if err != nil {
		return Call{}, err
	}
	c := Call{Procedure: r.name, Deferred: r.deferred, Live: r.live && a.flags&r.offlineFlags == 0, EndsTransient: r.endsTransient, IfMarkRemoved: r.ifMarkRemoved, Subject: r.subject, UUID: a.uuid, XML: a.xml, Pool: a.pool, Volume: a.volume, Flags: r.flags.of(a.flags)}
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

// Check reads a call that is to be inspected, and returns why no client may make it; nil if it may
// pass. args is as for [Read].
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

// restored finds the XML that replaces the saved one.
func restored(a arguments, c *Call) { c.XML = a.params["dxml"] }

// onlyTheMark lets a change of other metadata pass.
func onlyTheMark(a arguments, c *Call) {
	const element = 2
	if a.numbers[0] != element || a.strings[2] != Mark {
		c.Operations = nil
	}
}

// onlyADisk lets other devices pass. libvirtd knows a device by the name of its element.
func onlyADisk(a arguments, c *Call) {
	if name, err := rootName(a.strings[0]); err == nil && name != "disk" {
		c.Operations = nil
	}
}

// rootName returns the name of an XML document's element.
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

// byAlias leaves it to the domain's XML whether the device is a disk; see [Call.On].
func byAlias(a arguments, c *Call) { c.Alias = a.strings[0] }

// resized sets the disk and its new size. libvirtd is asked whether that is less.
func resized(a arguments, c *Call) {
	c.Disk, c.Size = a.strings[0], a.numbers[0]
	if a.flags&resizeBytes == 0 {
		c.Size <<= 10
	}
}

// offOnDisk: a guest that is suspended to its disk is off, and its process ends.
func offOnDisk(a arguments, c *Call) {
	const disk = 1
	if a.numbers[0] == disk {
		c.Operations = stopsAndPauses
	}
}

// endsByReset: where a domain that runs is not to be restarted any more, every reset ends it.
func endsByReset(a arguments, c *Call) {
	const reboot, restart = 1, 1
	if a.numbers[0] == reboot && a.numbers[1] != restart && a.flags != onlyConfig {
		c.Operations = []Operation{Stop, Modify}
	}
}

// byMonitor sets the operations of a monitor command.
func byMonitor(a arguments, c *Call) {
	c.Command = a.strings[0]
	read := qmp
	if a.flags&monitorHMP != 0 {
		read = hmp
	}
	c.Operations = read(c.Command)
}

// byAgent sets the operations of a command for the guest agent.
func byAgent(a arguments, c *Call) {
	c.Command = a.strings[0]
	c.Operations = agent(c.Command)
}
