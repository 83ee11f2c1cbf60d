package tool

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	stockOperations   = []string{"start", "stopped", "prepare", "release", "migrate", "started", "reconnect", "attach", "restore"}
	patchedOperations = append(append([]string{}, stockOperations...), "stop")
)

// A fakeLibrary is as much of libvirt.so.0 as is looked at. No libvirt that calls the hook for stop can be installed: what its
// table looks like is taken from those of released ones, of which a test below reads a real one.
type fakeLibrary struct {
	class   elf.Class
	order   binary.ByteOrder
	machine elf.Machine
	inPlace bool // pointers are in the array, as with REL and RELR
	words   []string
}

// libraryHere is one for the machine that runs the test.
func libraryHere(words []string) fakeLibrary {
	l := fakeLibrary{class: elf.ELFCLASS64, order: binary.LittleEndian, machine: machines[runtime.GOARCH][0], words: words}
	if bits := 32 << (^uint(0) >> 63); bits == 32 {
		l.class = elf.ELFCLASS32
	}
	if binary.NativeEndian.Uint16([]byte{0, 1}) == 1 {
		l.order = binary.BigEndian
	}
	return l
}

// bytes writes the words, an array of pointers to them, and the pointers' relocations. Addresses are not offsets, as in
// real libraries.
func (l fakeLibrary) bytes() []byte {
	const rodataAt, arrayAt = 0x10000, 0x20000
	is64 := l.class == elf.ELFCLASS64
	var rodata, array, relocations bytes.Buffer
	word := func(b *bytes.Buffer, v uint64) {
		if is64 {
			_ = binary.Write(b, l.order, v)
		} else {
			_ = binary.Write(b, l.order, uint32(v))
		}
	}
	rodata.WriteString("not a word\x00stop\x00") // the word alone says nothing
	for _, w := range l.words {
		to, at := rodataAt+uint64(rodata.Len()), arrayAt+uint64(array.Len())
		rodata.WriteString(w + "\x00")
		if l.inPlace {
			word(&array, to)
			continue
		}
		word(&array, 0)
		word(&relocations, at)
		word(&relocations, 8) // R_*_RELATIVE, more or less: no symbol
		word(&relocations, to)
	}
	names := "\x00.rodata\x00.data.rel.ro\x00.rela.dyn\x00.shstrtab\x00"
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
			_ = binary.Write(&table, l.order, elf.Section64{Name: name, Type: uint32(s.kind), Flags: uint64(s.flags), Addr: s.addr, Off: at, Size: uint64(len(s.content)), Entsize: s.entrySize})
		} else {
			_ = binary.Write(&table, l.order, elf.Section32{Name: name, Type: uint32(s.kind), Flags: uint32(s.flags), Addr: uint32(s.addr), Off: uint32(at), Size: uint32(len(s.content)), Entsize: uint32(s.entrySize)})
		}
	}
	ident := [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(l.class), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)}
	if l.order == binary.BigEndian {
		ident[elf.EI_DATA] = byte(elf.ELFDATA2MSB)
	}
	var file bytes.Buffer
	at := headerSize + uint64(body.Len())
	if is64 {
		_ = binary.Write(&file, l.order, elf.Header64{Ident: ident, Type: uint16(elf.ET_DYN), Machine: uint16(l.machine), Version: 1, Shoff: at, Ehsize: 64, Shentsize: 64, Shnum: uint16(len(sections)), Shstrndx: uint16(len(sections) - 1)})
	} else {
		_ = binary.Write(&file, l.order, elf.Header32{Ident: ident, Type: uint16(elf.ET_DYN), Machine: uint16(l.machine), Version: 1, Shoff: uint32(at), Ehsize: 52, Shentsize: 40, Shnum: uint16(len(sections)), Shstrndx: uint16(len(sections) - 1)})
	}
	file.Write(body.Bytes())
	file.Write(table.Bytes())
	return file.Bytes()
}

func TestWhichOperationsALibraryKnowsIsReadFromItsTable(t *testing.T) {
	lxc := []string{"start", "stopped", "prepare", "release", "started", "reconnect"}
	subops := []string{"-", "begin", "end"}
	join := func(lists ...[]string) (all []string) {
		for _, l := range lists {
			all = append(all, l...)
		}
		return all
	}
	for _, tt := range []struct {
		name, why string
		library   fakeLibrary
		want      []string
	}{
		{"stock", "the word stop is in the file, and not in the table", libraryHere(stockOperations), stockOperations},
		{"patched", "", libraryHere(patchedOperations), patchedOperations},
		{"between others", "arrays may follow each other without a gap", libraryHere(join(subops, patchedOperations, lxc)), patchedOperations},
		{"another driver first", "", libraryHere(join(lxc, stockOperations, lxc)), stockOperations},
		{"stop first", "a version may put it anywhere", libraryHere(join(subops, []string{"stop"}, stockOperations)), join([]string{"stop"}, stockOperations)},
		{"pointers in place", "REL and RELR have no addend", fakeLibrary{class: elf.ELFCLASS64, order: binary.LittleEndian, machine: elf.EM_X86_64, inPlace: true, words: patchedOperations}, patchedOperations},
		{"32 bit", "", fakeLibrary{class: elf.ELFCLASS32, order: binary.LittleEndian, machine: elf.EM_ARM, inPlace: true, words: patchedOperations}, patchedOperations},
		{"32 bit with addends", "", fakeLibrary{class: elf.ELFCLASS32, order: binary.BigEndian, machine: elf.EM_PPC, words: patchedOperations}, patchedOperations},
		{"big endian", "s390x", fakeLibrary{class: elf.ELFCLASS64, order: binary.BigEndian, machine: elf.EM_S390, words: stockOperations}, stockOperations},
		{"no QEMU driver", "only its table has attach", libraryHere(lxc), nil},
		{"nothing", "", libraryHere(nil), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "libvirt.so.0")
			if err := os.WriteFile(file, tt.library.bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
			got, err := qemuOperations(file)
			if diff := cmp.Diff(tt.want, got); diff != "" || (err == nil) != (tt.want != nil) {
				t.Errorf("%s\n%v\n%s", tt.why, err, diff)
			}
		})
	}
}

// Where the machine that runs the test has libvirt, its table is found too.
func TestTheTableOfTheLibvirtThatIsHereIsFound(t *testing.T) {
	d := doctor{}
	file, _ := d.library()
	if file == "" {
		t.Skip("no libvirt here")
	}
	got, err := qemuOperations(file)
	if err != nil || len(got) < len(stockOperations) {
		t.Errorf("%s: %q, %v", file, got, err)
	}
}

func FuzzQEMUOperations(f *testing.F) {
	f.Add(libraryHere(patchedOperations).bytes())
	f.Add([]byte("\x7fELF"))
	file := filepath.Join(f.TempDir(), "libvirt.so.0")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
		if got, err := qemuOperations(file); (err == nil) != (len(got) > 0) {
			t.Errorf("%q, %v", got, err)
		}
	})
}
