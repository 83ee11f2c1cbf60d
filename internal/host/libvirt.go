package host

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// libvirt keeps the names of the operations that it calls the QEMU hook for in an array of pointers (VIR_ENUM_IMPL of
// virHookQemuOp, in libvirt.so.0), and gives a hook the name out of it. So a library without "stop" in that array cannot
// call it. That the words stand somewhere in the file says nothing: a linker stores "stop" once, whoever needs it.

// Library gives the file of libvirt's library: the one that the daemon runs with, else that which the next woulh. replaced
// is true if the daemon's is no longer there.
func (h Host) Library(daemons []process) (file string, replaced bool) {
	for _, p := range daemons {
		for line := range strings.Lines(h.Proc(p.Pid, "maps")) {
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

// hookWords are what such arrays hold, of any driver and any version.
var hookWords = []string{"start", "stopped", "prepare", "release", "migrate", "started", "reconnect", "attach", "restore", "stop"}

// maxSection is more than any section of a libvirt that is not broken.
const maxSection = 64 << 20

// QEMUOperations gives the operations that a libvirt library calls the QEMU hook for.
func QEMUOperations(file string) ([]string, error) {
	f, err := elf.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	l := library{File: f, pointers: map[uint64]uint64{}, contents: map[*elf.Section][]byte{}}
	if err := l.relocate(); err != nil {
		return nil, err
	}
	for _, s := range f.Sections {
		// Pointers have to be relocated, and so are in what is, or was at first, writable.
		if s.Type != elf.SHT_PROGBITS || s.Flags&elf.SHF_ALLOC == 0 || s.Flags&elf.SHF_WRITE == 0 {
			continue
		}
		words, err := l.words(s)
		if err != nil {
			return nil, err
		}
		if table := qemuTable(words); table != nil {
			return table, nil
		}
	}
	return nil, errors.New("its table of hook operations is not found")
}

// qemuTable finds the array of the QEMU driver, the only one with attach, among pointers to words; "" is a pointer to
// anything else. Another driver's may follow it without a gap, but no array has a word twice.
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

type library struct {
	*elf.File
	pointers map[uint64]uint64 // by where they are stored; of those whose value is in the relocation
	contents map[*elf.Section][]byte
}

// relocate reads the relocations with addends. Without any (REL, RELR), the pointers are where they will be.
func (l library) relocate() error {
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
				if l.ByteOrder.Uint64(data[8:])>>32 == 0 { // relative to no symbol
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

func (l library) content(s *elf.Section) ([]byte, error) {
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

// words gives for each pointer of a section the word that it leads to.
func (l library) words(s *elf.Section) ([]string, error) {
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

// word gives the one of hookWords that stands at an address, or "".
func (l library) word(address uint64) string {
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
