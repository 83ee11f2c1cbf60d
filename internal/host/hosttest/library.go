package hosttest

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
)

var (
	StockOperations   = []string{"start", "stopped", "prepare", "release", "migrate", "started", "reconnect", "attach", "restore"}
	PatchedOperations = append(append([]string{}, StockOperations...), "stop")
)

// A FakeLibrary has the parts of libvirt.so.0 that are read. A libvirt that calls the hook for stop
// cannot be installed: the form of its table is taken from released ones, one of which a test
// reads.
type FakeLibrary struct {
	Class   elf.Class
	Order   binary.ByteOrder
	Machine elf.Machine
	InPlace bool // pointers are in the array, as with REL and RELR
	Words   []string

	HooksFolder string // the folder of hooks
	Version     string
}

// LibraryHere returns a library for the machine that runs the test.
func LibraryHere(words []string) FakeLibrary {
	l := FakeLibrary{Class: elf.ELFCLASS64, Order: binary.LittleEndian, Machine: machineHere(), Words: words, HooksFolder: "/etc/libvirt/hooks", Version: "9.0.0"}
	if bits := 32 << (^uint(0) >> 63); bits == 32 {
		l.Class = elf.ELFCLASS32
	}
	if binary.NativeEndian.Uint16([]byte{0, 1}) == 1 {
		l.Order = binary.BigEndian
	}
	return l
}

// Bytes writes the words, an array of pointers to them, and the pointers' relocations. Addresses
// are not offsets, as in real libraries.
func (l FakeLibrary) Bytes() []byte {
	const rodataAt, arrayAt = 0x10000, 0x20000
	is64 := l.Class == elf.ELFCLASS64
	var rodata, array, relocations bytes.Buffer
	word := func(b *bytes.Buffer, v uint64) {
		if is64 {
			_ = binary.Write(b, l.Order, v)
		} else {
			_ = binary.Write(b, l.Order, uint32(v))
		}
	}
	rodata.WriteString("not a word\x00stop\x00" + l.HooksFolder + "\x00/etc/libvirt/hooks/x\x00") // a single word does not prove anything
	for _, w := range l.Words {
		to, at := rodataAt+uint64(rodata.Len()), arrayAt+uint64(array.Len())
		rodata.WriteString(w + "\x00")
		if l.InPlace {
			word(&array, to)
			continue
		}
		word(&array, 0)
		word(&relocations, at)
		word(&relocations, 8) // R_*_RELATIVE does not have a symbol
		word(&relocations, to)
	}
	names := "\x00.rodata\x00.data.rel.ro\x00.rela.dyn\x00.dynstr\x00.shstrtab\x00"
	type section struct {
		name      string
		kind      elf.SectionType
		flags     elf.SectionFlag
		addr      uint64
		content   []byte
		entrySize uint64
	}
	entry := uint64(24)
	if !is64 {
		entry = 12
	}
	sections := []section{
		{},
		{".rodata", elf.SHT_PROGBITS, elf.SHF_ALLOC, rodataAt, rodata.Bytes(), 0},
		{".data.rel.ro", elf.SHT_PROGBITS, elf.SHF_ALLOC | elf.SHF_WRITE, arrayAt, array.Bytes(), 0},
		{".rela.dyn", elf.SHT_RELA, elf.SHF_ALLOC, 0x30000, relocations.Bytes(), entry},
		{".dynstr", elf.SHT_STRTAB, elf.SHF_ALLOC, 0x40000, []byte("\x00LIBVIRT_0.0.3\x00LIBVIRT_PRIVATE_" + l.Version + "\x00"), 0},
		{".shstrtab", elf.SHT_STRTAB, 0, 0, []byte(names), 0},
	}
	headerSize := uint64(64)
	if !is64 {
		headerSize = 52
	}
	var body, table bytes.Buffer
	for _, s := range sections {
		name, at := uint32(max(0, bytes.Index([]byte(names), []byte(s.name+"\x00")))), headerSize+uint64(body.Len())
		body.Write(s.content)
		if is64 {
			_ = binary.Write(&table, l.Order, elf.Section64{Name: name, Type: uint32(s.kind), Flags: uint64(s.flags), Addr: s.addr, Off: at, Size: uint64(len(s.content)), Entsize: s.entrySize})
		} else {
			_ = binary.Write(&table, l.Order, elf.Section32{Name: name, Type: uint32(s.kind), Flags: uint32(s.flags), Addr: uint32(s.addr), Off: uint32(at), Size: uint32(len(s.content)), Entsize: uint32(s.entrySize)})
		}
	}
	ident := [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(l.Class), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)}
	if l.Order == binary.BigEndian {
		ident[elf.EI_DATA] = byte(elf.ELFDATA2MSB)
	}
	var file bytes.Buffer
	at := headerSize + uint64(body.Len())
	if is64 {
		_ = binary.Write(&file, l.Order, elf.Header64{Ident: ident, Type: uint16(elf.ET_DYN), Machine: uint16(l.Machine), Version: 1, Shoff: at, Ehsize: 64, Shentsize: 64, Shnum: uint16(len(sections)), Shstrndx: uint16(len(sections) - 1)})
	} else {
		_ = binary.Write(&file, l.Order, elf.Header32{Ident: ident, Type: uint16(elf.ET_DYN), Machine: uint16(l.Machine), Version: 1, Shoff: uint32(at), Ehsize: 52, Shentsize: 40, Shnum: uint16(len(sections)), Shstrndx: uint16(len(sections) - 1)})
	}
	file.Write(body.Bytes())
	file.Write(table.Bytes())
	return file.Bytes()
}

// machineHere returns the machine that the test is built for.
func machineHere() elf.Machine {
	f, err := elf.Open("/proc/self/exe")
	if err != nil {
		panic(err)
	}
	defer func() { _ = f.Close() }()
	return f.Machine
}
