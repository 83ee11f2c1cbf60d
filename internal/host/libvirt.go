package host

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// libvirt stores the names of the QEMU hook's operations in an array of pointers (VIR_ENUM_IMPL of
// virHookQemuOp, in libvirt.so.0), and passes a name from it to the hook. So a library without
// "stop" in that array cannot call the hook for a stop. "stop" elsewhere in the file is not
// evidence, because a linker stores the word once for all its users.

// LibraryFile returns the file of libvirt's library: the one that the daemon has loaded, or else
// the one that the next daemon would load. replaced is set if the daemon's file no longer exists.
func (h Host) LibraryFile(daemons []Process) (file string, replaced bool) {
	for _, p := range daemons {
		for line := range strings.Lines(h.Proc(p.PID, "maps")) {
			at := strings.IndexByte(line, '/')
			if at < 0 || !strings.HasPrefix(filepath.Base(line[at:]), "libvirt.so.0") {
				continue
			}
			name := strings.TrimSpace(line[at:])
			if strings.HasSuffix(name, " (deleted)") {
				return "", true
			}
			return h.Path(name), false
		}
	}
	for _, pattern := range []string{"/usr/lib/*/libvirt.so.0", "/usr/lib64/libvirt.so.0", "/usr/lib/libvirt.so.0", "/lib/*/libvirt.so.0", "/lib64/libvirt.so.0"} {
		files, _ := filepath.Glob(h.Path(pattern)) // an error is about the pattern
		for _, file := range files {
			if ProgramFault(file) == "" {
				return file, false
			}
		}
	}
	return "", false
}

// errNoTable is returned for a readable library in which the operations were not found.
var errNoTable = errors.New("its table of hook operations is not found")

// hookWords are the words in such arrays, of all drivers and versions.
var hookWords = []string{"start", "stopped", "prepare", "release", "migrate", "started", "reconnect", "attach", "restore", "stop"}

// maxSection bounds a section, in bytes. It is more than any section of an intact libvirt.
const maxSection = 64 << 20

// A Library has the information in libvirt's library, libvirt.so.0. Fields that were not found are
// empty.
type Library struct {
	File        string
	Operations  []string // the operations for which it calls the QEMU hook
	HooksFolder string   // the folder of hooks
	Version     string   // such as 9.0.0
}

// ReadLibrary reads a library's file.
func ReadLibrary(file string) (Library, error) {
	f, err := elf.Open(file)
	if err != nil {
		return Library{}, err
	}
	defer func() { _ = f.Close() }()
	l := libraryFile{File: f, pointers: map[uint64]uint64{}, contents: map[*elf.Section][]byte{}}
	if err := l.relocate(); err != nil {
		return Library{}, err
	}
	found := Library{File: file}
	for _, s := range f.Sections {
		switch {
		case s.Flags&elf.SHF_ALLOC == 0:
		case s.Type == elf.SHT_STRTAB:
			if version := privateVersion.FindSubmatch(l.strings(s)); version != nil {
				found.Version = string(version[1])
			}
		case s.Type == elf.SHT_PROGBITS && s.Flags&elf.SHF_WRITE == 0 && s.Flags&elf.SHF_EXECINSTR == 0:
			if folders := hooksFolder.FindAllSubmatch(l.strings(s), 2); len(folders) == 1 {
				found.HooksFolder = string(folders[0][1])
			}
		case s.Type == elf.SHT_PROGBITS && s.Flags&elf.SHF_WRITE != 0 && found.Operations == nil:
			// Pointers have to be relocated, so their sections are writable, at least at first.
			words, err := l.words(s)
			if err != nil {
				return Library{}, err
			}
			found.Operations = qemuTable(words)
		}
	}
	return found, nil
}

var (
	// privateVersion matches the version of the symbols for libvirt's own programs, which is that
	// of the library.
	privateVersion = regexp.MustCompile(`\x00LIBVIRT_PRIVATE_([0-9]+\.[0-9]+\.[0-9]+)\x00`)

	// hooksFolder matches LIBVIRT_HOOK_DIR. Distributions without /etc use another folder, such as
	// NixOS in /var/lib.
	hooksFolder = regexp.MustCompile(`\x00(/[^\x00]*/libvirt/hooks)\x00`)
)

// HasHooksFolder reports whether the library runs the files in qemu.d beside the hook qemu, as
// libvirt does since 6.5.0. known is false if its version is unknown.
func (l Library) HasHooksFolder() (has, known bool) {
	var major, minor, micro int
	if _, err := fmt.Sscanf(l.Version, "%d.%d.%d", &major, &minor, &micro); err != nil {
		return false, false
	}
	return major > 6 || major == 6 && minor >= 5, true
}

// qemuTable returns the array of the QEMU driver, the only one with "attach". words are the targets
// of pointers, with "" for any other target. Another driver's array may follow directly, but an
// array does not have a word twice.
func qemuTable(words []string) []string {
	for i, word := range words {
		if word != "attach" {
			continue
		}
		table := []string{word}
		for left := i - 1; left >= 0 && words[left] != "" && !slices.Contains(table, words[left]); left-- {
			table = append(table, words[left])
		}
		slices.Reverse(table)
		for right := i + 1; right < len(words) && words[right] != "" && !slices.Contains(table, words[right]); right++ {
			table = append(table, words[right])
		}
		if slices.Contains(table, "prepare") && slices.Contains(table, "reconnect") && slices.Contains(table, "release") {
			return table
		}
	}
	return nil
}

type libraryFile struct {
	*elf.File
	pointers map[uint64]uint64 // by address; only those whose value is in the relocation
	contents map[*elf.Section][]byte
}

// relocate reads the relocations with addends. With other relocations (REL, RELR) the section
// itself has the pointers.
func (l libraryFile) relocate() error {
	for _, s := range l.Sections {
		if s.Type != elf.SHT_RELA {
			continue
		}
		data, err := l.content(s)
		if err != nil {
			return err
		}
		if l.Class == elf.ELFCLASS64 {
			for ; len(data) >= 24; data = data[24:] {
				if l.ByteOrder.Uint64(data[8:])>>32 == 0 { // not relative to a symbol
					l.pointers[l.ByteOrder.Uint64(data)] = l.ByteOrder.Uint64(data[16:])
				}
			}
			continue
		}
		for ; len(data) >= 12; data = data[12:] {
			if l.ByteOrder.Uint32(data[4:])>>8 == 0 {
				l.pointers[uint64(l.ByteOrder.Uint32(data))] = uint64(l.ByteOrder.Uint32(data[8:]))
			}
		}
	}
	return nil
}

func (l libraryFile) content(s *elf.Section) ([]byte, error) {
	if data, ok := l.contents[s]; ok {
		return data, nil
	}
	if s.FileSize > maxSection {
		return nil, fmt.Errorf("its section %.40q is larger than %d bytes", s.Name, maxSection)
	}
	data, err := s.Data()
	l.contents[s] = data
	return data, err
}

// strings returns the content of a string section; nil if it cannot be read.
func (l libraryFile) strings(s *elf.Section) []byte {
	data, err := l.content(s)
	if err != nil {
		return nil
	}
	return data
}

// words returns the word at the target of each pointer of a section.
func (l libraryFile) words(s *elf.Section) ([]string, error) {
	data, err := l.content(s)
	if err != nil {
		return nil, err
	}
	size := 8
	if l.Class == elf.ELFCLASS32 {
		size = 4
	}
	var words []string
	for at := 0; at+size <= len(data); at += size {
		to, ok := l.pointers[s.Addr+uint64(at)]
		if !ok {
			to = pointer(l.ByteOrder, data[at:at+size])
		}
		words = append(words, l.word(to))
	}
	return words, nil
}

func pointer(order binary.ByteOrder, data []byte) uint64 {
	if len(data) == 4 {
		return uint64(order.Uint32(data))
	}
	return order.Uint64(data)
}

// word returns the entry of hookWords at an address, or "".
func (l libraryFile) word(address uint64) string {
	if address == 0 {
		return ""
	}
	for _, s := range l.Sections {
		if s.Type != elf.SHT_PROGBITS || s.Flags&elf.SHF_ALLOC == 0 || address < s.Addr || address-s.Addr >= s.FileSize {
			continue
		}
		data, err := l.content(s)
		if err != nil || address-s.Addr >= uint64(len(data)) {
			return ""
		}
		data = data[address-s.Addr:]
		for _, word := range hookWords {
			if len(data) > len(word) && string(data[:len(word)]) == word && data[len(word)] == 0 {
				return word
			}
		}
		return ""
	}
	return ""
}
