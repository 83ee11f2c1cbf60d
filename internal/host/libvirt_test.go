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
			got, err := host.ReadLibrary(file)
			if diff := cmp.Diff(tt.want, got.Operations); diff != "" || err != nil {
				t.Errorf("%s\n%v\n%s", tt.why, err, diff)
			}
		})
	}
}

func TestWhereALibraryLooksForHooksIsReadFromIt(t *testing.T) {
	for _, tt := range []struct {
		why, folder, version string
		has, known           bool
	}{
		{"Debian 12", "/etc/libvirt/hooks", "9.0.0", true, true},
		{"NixOS", "/var/lib/libvirt/hooks", "11.3.0", true, true},
		{"the last without qemu.d", "/etc/libvirt/hooks", "6.4.0", false, true},
		{"the first with it", "/etc/libvirt/hooks", "6.5.0", true, true},
		{"a new major version", "/etc/libvirt/hooks", "7.0.0", true, true},
		{"Ubuntu 18.04", "/etc/libvirt/hooks", "4.0.0", false, true},
		{"it says neither", "", "none", false, false},
		{"a relative path is no folder of a host", "etc/libvirt/hooks", "", false, false},
	} {
		t.Run(tt.why, func(t *testing.T) {
			library := hosttest.LibraryHere(hosttest.StockOperations)
			library.HooksFolder, library.Version = tt.folder, tt.version
			file := filepath.Join(t.TempDir(), "libvirt.so.0")
			if err := os.WriteFile(file, library.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
			got, err := host.ReadLibrary(file)
			if err != nil {
				t.Fatal(err)
			}
			want := tt.folder
			if !filepath.IsAbs(want) {
				want = ""
			}
			has, known := got.HasHooksFolder()
			if got.HooksFolder != want || has != tt.has || known != tt.known {
				t.Errorf("%+v, has qemu.d: %v, known: %v", got, has, known)
			}
		})
	}
}

// If libvirt is installed on the test's machine, its real library is read, too.
func TestTheLibvirtThatIsHereIsRead(t *testing.T) {
	file, _ := host.Host{}.LibraryFile(nil)
	if file == "" {
		t.Skip("no libvirt here")
	}
	got, err := host.ReadLibrary(file)
	if _, known := got.HasHooksFolder(); err != nil || len(got.Operations) < len(hosttest.StockOperations) || !filepath.IsAbs(got.HooksFolder) || !known {
		t.Errorf("%s: %+v, %v", file, got, err)
	}
}

func FuzzReadLibrary(f *testing.F) {
	f.Add(hosttest.LibraryHere(hosttest.PatchedOperations).Bytes())
	f.Add([]byte("\x7fELF"))
	file := filepath.Join(f.TempDir(), "libvirt.so.0")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
		if got, err := host.ReadLibrary(file); err != nil && got.File != "" {
			t.Errorf("%+v, %v", got, err)
		}
	})
}
