//go:build e2e

package e2ehost

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A Guest is a domain whose operating system is bootSector, or a small Linux.
type Guest struct {
	Name, UUID string
	Metadata   string // children of <metadata>
	OnCrash    string
	Kernel     string // an image to boot instead of the boot sector
	Format     string // of the disk; "" means raw, and all others need qemu-img
	Linux      bool   // it boots Linux, with a guest agent; see linuxInit
}

// The folder of the guests' files, and the answers of a guest.
const (
	GuestDir = "/var/lib/libvirt/images"
	Fresh    = "fresh" // The guest remembers nothing: it has booted.
	Kept     = "kept"  // The guest remembers the byte that it received: it has not booted since, or was restored.
)

// bootSector is a guest that remembers one byte and obeys its serial port:
//
//	'?'  answer with the byte; 'b' after a boot
//	'o'  power off
//	'c'  panic
//	else remember this byte
//
// It powers off when the ACPI power button is pressed, so that virsh shutdown ends it. The ports
// are those of QEMU's pc machine: PM1 status, enable and control at 0x600, 0x602 and 0x604, COM1 at
// 0x3f8, and pvpanic at 0x505.
var bootSector = []byte{
	0xb3, 'b', // mov bl, 'b'

	0xba, 0x02, 0x06, // mov dx, 0x602: QEMU drops a press of the button unless
	0xb8, 0x00, 0x01, // mov ax, 0x100  the guest has enabled it
	0xef, // out dx, ax
	0xfb, // sti

	// loop (0x0a)
	0xf4,             // hlt: the BIOS's tick wakes it 18 times a second, so that it costs nothing
	0xba, 0x00, 0x06, // mov dx, 0x600
	0xed,             // in ax, dx
	0xf6, 0xc4, 0x01, // test ah, 1: the power button
	0x75, 0x21, // jnz off
	0xba, 0xfd, 0x03, // mov dx, 0x3fd
	0xec,       // in al, dx
	0xa8, 0x01, // test al, 1: has a byte come?
	0x74, 0xee, // jz loop
	0xba, 0xf8, 0x03, // mov dx, 0x3f8
	0xec,      // in al, dx
	0x3c, 'o', // cmp al, 'o'
	0x74, 0x11, // je off
	0x3c, 'c', // cmp al, 'c'
	0x74, 0x17, // je crash
	0x3c, '?', // cmp al, '?'
	0x74, 0x04, // je answer
	0x88, 0xc3, // mov bl, al
	0xeb, 0xda, // jmp loop

	// answer (0x30)
	0x88, 0xd8, // mov al, bl
	0xee,       // out dx, al
	0xeb, 0xd5, // jmp loop

	// off (0x35)
	0xba, 0x04, 0x06, // mov dx, 0x604
	0xb8, 0x00, 0x20, // mov ax, 0x2000: sleep type 0 is S5, with the enable bit
	0xef,       // out dx, ax
	0xf4,       // hlt
	0xeb, 0xfd, // jmp to the hlt before

	// crash (0x3f)
	0xba, 0x05, 0x05, // mov dx, 0x505
	0xb0, 0x01, // mov al, 1: panicked
	0xee,       // out dx, al
	0xf4,       // hlt
	0xeb, 0xfd, // jmp to the hlt before
}

// Disk returns the path of the guest's disk.
func (g Guest) Disk() string { return filepath.Join(GuestDir, g.Name+".img") }

// Serial returns the path of the socket of the guest's serial port.
func (g Guest) Serial() string { return filepath.Join(GuestDir, g.Name+".serial") }

// XML returns the guest's definition.
func (g Guest) XML() string {
	memory, boot, power, disk, more := 32, "<boot dev='hd'/>", "", "<target dev='hda' bus='ide'/>", ""
	switch {
	case g.Linux:
		memory, boot, power = linuxMemory, linuxBoot, "\n  <pm><suspend-to-mem enabled='yes'/></pm>"
		disk, more = "<target dev='vda' bus='virtio'/>", linuxDevices(g)
	case g.Kernel != "":
		boot = "<kernel>" + g.Kernel + "</kernel>"
	}
	return fmt.Sprintf(`<domain type='qemu'>
  <name>%s</name>
  <uuid>%s</uuid>
  <metadata>%s</metadata>
  <memory unit='MiB'>%d</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type>%s</os>
  <features><acpi/></features>
  <on_crash>%s</on_crash>%s
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='%s'/>
      <source file='%s'/>
      %s
    </disk>
    <controller type='usb' model='none'/>
    <serial type='unix'><source mode='bind' path='%s'/></serial>%s
    <memballoon model='none'/>
    <panic model='isa'/>
  </devices>
</domain>
`, escaped(g.Name), g.UUID, g.Metadata, memory, boot, cmp.Or(g.OnCrash, "destroy"), power,
		cmp.Or(g.Format, "raw"), escaped(g.Disk()), disk, escaped(g.Serial()), more)
}

func escaped(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // the builder takes all
	return b.String()
}

// Write writes the guest's disk and XML, and returns the path of the XML.
func (h *Host) Write(g Guest) string {
	sector := make([]byte, 1<<20)
	copy(sector, bootSector)
	sector[510], sector[511] = 0x55, 0xaa
	h.File(g.Disk(), string(sector), 0o644)
	if g.Format != "" {
		raw := g.Disk() + ".raw"
		h.Rename(g.Disk(), raw)
		h.Run("qemu-img", "convert", "-f", "raw", "-O", g.Format, raw, g.Disk())
	}
	if g.Linux {
		h.writeLinux(g)
	}
	file := filepath.Join(GuestDir, g.Name+".xml")
	h.File(file, g.XML(), 0o644)
	return file
}

// Ask returns the byte that the guest remembers. It waits until a booting guest has booted.
func (h *Host) Ask(g Guest) string {
	var last error
	patience := Patience
	if g.Linux {
		patience = linuxPatience
	}
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		answer, err := exchange(g.Serial(), []byte{'?'}, true)
		switch {
		case err != nil:
			last = err
			time.Sleep(Tick)
		case answer == 'b':
			return Fresh
		case answer == 'k':
			return Kept
		default:
			last = fmt.Errorf("it answers with %q", answer)
		}
	}
	h.Fatalf("the guest %s does not answer: %v", g.Name, last)
	return ""
}

// Remind makes the guest remember that it has been running.
func (h *Host) Remind(g Guest) {
	h.Until("the guest "+g.Name+" remembers", func() bool {
		h.Tell(g, 'k')
		return h.Ask(g) == Kept
	})
}

// Tell sends the guest a byte.
func (h *Host) Tell(g Guest, value byte) {
	if _, err := exchange(g.Serial(), []byte{value}, false); err != nil {
		h.Fatalf("the guest %s cannot be told %q: %v", g.Name, value, err)
	}
}

// exchange sends bytes to a guest's serial port. A reset drops a byte that the guest has not read
// yet. So exchange waits only briefly for an answer, and the caller retries.
func exchange(path string, send []byte, wait bool) (byte, error) {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return 0, err
	}
	if _, err := conn.Write(send); err != nil || !wait {
		return 0, err
	}
	answer := make([]byte, 1)
	if _, err := conn.Read(answer); err != nil {
		return 0, fmt.Errorf("no answer: %w", err)
	}
	return answer[0], nil
}

// QEMU returns the PID in libvirt's pid file of a guest.
func (h *Host) QEMU(g Guest) int {
	return h.PID("/run/libvirt/qemu/" + g.Name + ".pid")
}

// LastLines returns the end of a file, for a failure's message.
func LastLines(path string, limit int) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error() + "\n"
	}
	if len(data) > limit {
		data = append([]byte("...\n"), data[len(data)-limit:]...)
	}
	return string(data)
}
