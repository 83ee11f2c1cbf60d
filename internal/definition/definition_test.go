package definition

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stopguard/stopguard/internal/problem"
	"github.com/stopguard/stopguard/internal/testhost"
)

const (
	uuid1 = "16e14a01-2b11-40de-a128-75e3f4a5fe12"
	uuid2 = "26e14a01-2b11-40de-a128-75e3f4a5fe12"
)

// text is a definition as libvirt writes it.
func text(name, uuid string) string {
	return fmt.Sprintf("<!--\nWARNING: THIS IS AN AUTO-GENERATED FILE.\n-->\n\n<domain type='kvm'>\n  <name>%s</name>\n  <uuid>%s</uuid>\n</domain>\n", name, uuid)
}

// found returns the name of each definition, with its UUID, or with what is wrong.
func found(all []Definition) []string {
	names := []string{}
	for _, d := range all {
		if what := "no domain, and no error"; d.Err != nil {
			what, _ = problem.Split(d.Err)
			names = append(names, d.Name+": "+what)
		} else if d.Domain == nil || d.Name != d.Domain.Name {
			names = append(names, d.Name+": "+what)
		} else {
			names = append(names, d.Name+" "+d.Domain.UUID)
		}
	}
	return names
}

func TestAll(t *testing.T) {
	path := func(root, file string) string { return filepath.Join(root, Folder, file) }
	for _, tt := range []struct {
		why   string
		plant func(t *testing.T, root string)
		want  []string // with PATH for the folder's
	}{
		{"libvirt has not defined a domain yet", func(*testing.T, string) {}, []string{}},
		{"what is not a definition", func(t *testing.T, root string) {
			testhost.Put(t, root, Folder+"/networks/default.xml", "<network/>", Folder+"/autostart.xml/a.xml", text("a", uuid1), Folder+"/b.xml.new", "<dom", Folder+"/c.xml~", text("c", uuid1))
		}, []string{}},
		{"two", func(t *testing.T, root string) {
			testhost.Put(t, root, Folder+"/b.xml", text("b", strings.ToUpper(uuid2)), Folder+"/a.xml", text("a", uuid1))
		}, []string{"a " + uuid1, "b " + uuid2}},
		{"a hidden name", func(t *testing.T, root string) { testhost.Put(t, root, Folder+"/.a.xml", text(".a", uuid1)) }, []string{".a " + uuid1}},
		{"a file without a name is not without a name in an error", func(t *testing.T, root string) { testhost.Put(t, root, Folder+"/.xml", "") },
			[]string{".xml: domainxml: line 1, column 1: /: no root element; expected <domain>"}},
		{"torn", func(t *testing.T, root string) {
			testhost.Put(t, root, Folder+"/a.xml", text("a", uuid1)[:80], Folder+"/b.xml", text("b", uuid2))
		}, []string{"a: domainxml: line 6, column 10: /domain/name: the document ends before </name>; it may have been cut short", "b " + uuid2}},
		{"empty", func(t *testing.T, root string) { testhost.Put(t, root, Folder+"/a.xml", "") },
			[]string{"a: domainxml: line 1, column 1: /: no root element; expected <domain>"}},
		{"another document", func(t *testing.T, root string) { testhost.Put(t, root, Folder+"/a.xml", "<network/>") },
			[]string{"a: domainxml: line 1, column 1: /network: the root element is <network> in namespace \"\"; expected <domain> in none"}},
		{"a link, which libvirt follows", func(t *testing.T, root string) {
			testhost.Put(t, root, "/srv/a.xml", text("a", uuid1), Folder+"/b.xml", text("b", uuid2))
			must(t, os.Symlink(filepath.Join(root, "srv/a.xml"), path(root, "a.xml")))
		}, []string{"a: PATH/a.xml: is a link, and links are not followed", "b " + uuid2}},
		{"a link that leads nowhere", func(t *testing.T, root string) {
			testhost.Put(t, root, Folder+"/b.xml", text("b", uuid2))
			must(t, os.Symlink("nowhere", path(root, "a.xml")))
		}, []string{"a: PATH/a.xml: is a link, and links are not followed", "b " + uuid2}},
		{"a FIFO, which would never end", func(t *testing.T, root string) {
			testhost.Put(t, root, Folder+"/b.xml", text("b", uuid2))
			must(t, syscall.Mkfifo(path(root, "a.xml"), 0o600))
		}, []string{"a: PATH/a.xml: is a FIFO, not a regular file", "b " + uuid2}},
		{"others may write it", func(t *testing.T, root string) {
			testhost.Put(t, root, Folder+"/a.xml", text("a", uuid1))
			must(t, os.Chmod(path(root, "a.xml"), 0o666))
		}, []string{"a: PATH/a.xml: is writable by everyone (mode 0666)"}},
		{"larger than all may be", func(t *testing.T, root string) {
			testhost.Put(t, root, Folder+"/a.xml", "", Folder+"/b.xml", text("b", uuid2))
			must(t, os.Truncate(path(root, "a.xml"), maxXML+1))
		}, []string{"a: PATH/a.xml: is longer than 67108864 bytes", "b " + uuid2}},

		// A daemon that starts loads each of these (seen with libvirt 9.0.0).
		{"not called like its domain", func(t *testing.T, root string) { testhost.Put(t, root, Folder+"/copy.xml", text("a", uuid1)) },
			[]string{"a " + uuid1}},
		{"a copy before libvirt's file", func(t *testing.T, root string) {
			testhost.Put(t, root, Folder+"/a-old.xml", text("a", uuid1), Folder+"/a.xml", text("a", uuid1))
		}, []string{"a-old: " + Folder + "/a-old.xml defines the domain of a.xml once more, and libvirt loads one of the two when it starts", "a " + uuid1}},
		{"a copy behind it, with another UUID", func(t *testing.T, root string) {
			testhost.Put(t, root, Folder+"/a.xml", text("a", uuid1), Folder+"/copy.xml", text("a", uuid2))
		}, []string{"a " + uuid1, "copy: " + Folder + "/copy.xml defines the domain of a.xml once more, and libvirt loads one of the two when it starts"}},
		{"half a rename", func(t *testing.T, root string) {
			testhost.Put(t, root, Folder+"/a.xml", text("a", uuid1), Folder+"/b.xml", text("b", uuid1))
		}, []string{"a " + uuid1, "b: " + Folder + "/b.xml defines the domain of a.xml once more, and libvirt loads one of the two when it starts"}},
		{"two copies, and not libvirt's file", func(t *testing.T, root string) {
			testhost.Put(t, root, Folder+"/x.xml", text("a", uuid1), Folder+"/y.xml", text("a", uuid1))
		}, []string{"a " + uuid1, "y: " + Folder + "/y.xml defines the domain of x.xml once more, and libvirt loads one of the two when it starts"}},
		{"a name that is written in another way", func(t *testing.T, root string) {
			testhost.Put(t, root, Folder+"/a\x01.xml", text("a", uuid1), Folder+"/Z.xml", text("a", uuid1))
		}, []string{"Z: " + Folder + "/Z.xml defines the domain of a\x01.xml once more, and libvirt loads one of the two when it starts", "a " + uuid1}},
	} {
		t.Run(tt.why, func(t *testing.T) {
			root := t.TempDir()
			tt.plant(t, root)
			all, err := All(root)
			if err != nil {
				t.Error(err)
			}
			for i := range tt.want {
				tt.want[i] = strings.ReplaceAll(tt.want[i], "PATH", filepath.Join(root, Folder))
			}
			if diff := cmp.Diff(tt.want, found(all)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			for _, d := range all {
				if d.Err == nil {
					continue
				}
				if what, cure := problem.Split(d.Err); what == "" || cure == "" || d.Domain != nil {
					t.Errorf("%s: the cure of %v is %q", d.Name, d.Err, cure)
				}
			}
		})
	}
}

// A folder that cannot be listed is not a folder without definitions.
func TestAFolderThatCannotBeListedIsAnError(t *testing.T) {
	for _, tt := range []struct {
		why   string
		plant func(t *testing.T, root string)
		want  error
	}{
		{"a file", func(t *testing.T, root string) { testhost.Put(t, root, Folder, "") }, syscall.ENOTDIR},
		{"a file above it", func(t *testing.T, root string) { testhost.Put(t, root, filepath.Dir(Folder), "") }, syscall.ENOTDIR},
		{"links in a circle", func(t *testing.T, root string) {
			testhost.Put(t, root, filepath.Dir(Folder)+"/libvirt.conf", "")
			must(t, os.Symlink("qemu", filepath.Join(root, Folder)))
		}, syscall.ELOOP},
	} {
		root := t.TempDir()
		tt.plant(t, root)
		all, err := All(root)
		if len(all) > 0 || !errors.Is(err, tt.want) || !strings.HasPrefix(err.Error(), "the defined domains cannot be listed: ") {
			t.Errorf("%s: %v, %v", tt.why, all, err)
		}
	}
}

// A user who may not read the files is told so, by the folder's error or by that of each file.
func TestWhoMayNotReadDefinitionsIsTold(t *testing.T) {
	root := t.TempDir()
	testhost.Put(t, root, Folder+"/a.xml", text("a", uuid1))
	testhost.OpenToAll(t, filepath.Join(root, Folder))
	must(t, os.Chmod(filepath.Join(root, Folder, "a.xml"), 0))
	all, err := allAsNobody(root)
	if len(all) != 1 || all[0].Name != "a" || !errors.Is(all[0].Err, fs.ErrPermission) || err != nil {
		t.Errorf("a file: %+v, %v", all, err)
	}
	must(t, os.Chmod(filepath.Join(root, Folder), 0))
	all, err = allAsNobody(root)
	must(t, os.Chmod(filepath.Join(root, Folder), 0o700))
	if len(all) > 0 || !errors.Is(err, fs.ErrPermission) {
		t.Errorf("the folder: %v, %v", all, err)
	}
}

// allAsNobody returns All for a user whom the kernel does not let read everything.
func allAsNobody(root string) (all []Definition, err error) {
	var done sync.WaitGroup
	done.Go(func() {
		if os.Geteuid() == 0 {
			runtime.LockOSThread() // the thread ends with the goroutine
			if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, ^uintptr(0), 65534, ^uintptr(0)); errno != 0 {
				err = errno
				return
			}
		}
		all, err = All(root)
	})
	done.Wait()
	return all, err
}

// Bounds are reached by what lies in the folder, and name what is beyond.
func TestDefinitionsAreBounded(t *testing.T) {
	root := t.TempDir()
	padding := strings.Repeat(" ", maxXML/2)
	for i := range 3 {
		name := fmt.Sprintf("large-%d", i)
		testhost.Put(t, root, Folder+"/"+name+".xml", text(name, fmt.Sprintf("%d%s", i, uuid1[1:]))+padding[:maxXML/2-1000])
	}
	testhost.Put(t, root, Folder+"/small.xml", text("small", uuid2))
	all, err := All(root)
	if want := []string{"large-0 0" + uuid1[1:], "large-1 1" + uuid1[1:], "large-2: the definitions are larger than 67108864 bytes together", "small: " + "the definitions are larger than 67108864 bytes together"}; err != nil || !cmp.Equal(found(all), want) {
		t.Errorf("%v, %v", found(all), err)
	}

	root = t.TempDir()
	testhost.Put(t, root, Folder+"/a.xml", "<domain>")
	for i := range maxDefinitions {
		must(t, os.Link(filepath.Join(root, Folder, "a.xml"), filepath.Join(root, Folder, fmt.Sprintf("%05d.xml", i))))
	}
	if all, err := All(root); len(all) != maxDefinitions || err == nil || err.Error() != Folder+" holds more than 10000 domains; move out what does not belong there" {
		t.Errorf("%d, %v", len(all), err)
	}
}

// Domains come and go while the folder is read. One that stays is always there, whole.
func TestADomainThatStaysIsAlwaysThere(t *testing.T) {
	root := t.TempDir()
	folder := filepath.Join(root, Folder)
	testhost.Put(t, root, Folder+"/stays.xml", text("stays", uuid1))
	stop, stopped := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
			// As libvirt writes them.
			for _, name := range []string{"stays", "comes"} {
				uuid := map[string]string{"stays": uuid1, "comes": uuid2}[name]
				if err := errors.Join(os.WriteFile(folder+"/"+name+".xml.new", []byte(text(name, uuid)), 0o600), os.Rename(folder+"/"+name+".xml.new", folder+"/"+name+".xml")); err != nil {
					stopped <- err
					return
				}
			}
			if err := os.Remove(folder + "/comes.xml"); err != nil {
				stopped <- err
				return
			}
		}
	}()
	for range 500 {
		all, err := All(root)
		names := found(all)
		if err != nil || names[len(names)-1] != "stays "+uuid1 || len(names) == 2 && names[0] != "comes "+uuid2 || len(names) > 2 {
			t.Fatalf("%q, %v", names, err)
		}
	}
	close(stop)
	must(t, <-stopped)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
