package host_test

import (
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stopguard/stopguard/internal/host"
	"github.com/stopguard/stopguard/internal/host/hosttest"
)

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
		library   hosttest.FakeLibrary
		want      []string
	}{
		{"stock", "the word stop is in the file, and not in the table", hosttest.LibraryHere(hosttest.StockOperations), hosttest.StockOperations},
		{"patched", "", hosttest.LibraryHere(hosttest.PatchedOperations), hosttest.PatchedOperations},
		{"between others", "arrays may follow each other without a gap", hosttest.LibraryHere(join(subops, hosttest.PatchedOperations, lxc)), hosttest.PatchedOperations},
		{"another driver first", "", hosttest.LibraryHere(join(lxc, hosttest.StockOperations, lxc)), hosttest.StockOperations},
		{"stop first", "a version may put it anywhere", hosttest.LibraryHere(join(subops, []string{"stop"}, hosttest.StockOperations)), join([]string{"stop"}, hosttest.StockOperations)},
		{"pointers in place", "REL and RELR have no addend", hosttest.FakeLibrary{Class: elf.ELFCLASS64, Order: binary.LittleEndian, Machine: elf.EM_X86_64, InPlace: true, Words: hosttest.PatchedOperations}, hosttest.PatchedOperations},
		{"32 bit", "", hosttest.FakeLibrary{Class: elf.ELFCLASS32, Order: binary.LittleEndian, Machine: elf.EM_ARM, InPlace: true, Words: hosttest.PatchedOperations}, hosttest.PatchedOperations},
		{"32 bit with addends", "", hosttest.FakeLibrary{Class: elf.ELFCLASS32, Order: binary.BigEndian, Machine: elf.EM_PPC, Words: hosttest.PatchedOperations}, hosttest.PatchedOperations},
		{"big endian", "s390x", hosttest.FakeLibrary{Class: elf.ELFCLASS64, Order: binary.BigEndian, Machine: elf.EM_S390, Words: hosttest.StockOperations}, hosttest.StockOperations},
		{"no QEMU driver", "only its table has attach", hosttest.LibraryHere(lxc), nil},
		{"nothing", "", hosttest.LibraryHere(nil), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "libvirt.so.0")
			if err := os.WriteFile(file, tt.library.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
			got, err := host.QEMUOperations(file)
			if diff := cmp.Diff(tt.want, got); diff != "" || (err == nil) != (tt.want != nil) {
				t.Errorf("%s\n%v\n%s", tt.why, err, diff)
			}
		})
	}
}

// Where the machine that runs the test has libvirt, its table is found too.
func TestTheTableOfTheLibvirtThatIsHereIsFound(t *testing.T) {
	file, _ := host.Host{}.Library(nil)
	if file == "" {
		t.Skip("no libvirt here")
	}
	got, err := host.QEMUOperations(file)
	if err != nil || len(got) < len(hosttest.StockOperations) {
		t.Errorf("%s: %q, %v", file, got, err)
	}
}

func FuzzQEMUOperations(f *testing.F) {
	f.Add(hosttest.LibraryHere(hosttest.PatchedOperations).Bytes())
	f.Add([]byte("\x7fELF"))
	file := filepath.Join(f.TempDir(), "libvirt.so.0")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
		if got, err := host.QEMUOperations(file); (err == nil) != (len(got) > 0) {
			t.Errorf("%q, %v", got, err)
		}
	})
}
