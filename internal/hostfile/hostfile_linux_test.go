package hostfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/sys/unix"
)

const other = 4242 // a uid and a gid that are neither root's nor the running user's

// host creates a root folder with etc/libvirt in it, whatever the umask.
func host(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	mkdir(t, root, "etc", "etc/libvirt")
	mode(t, root, ".", 0o755)
	return root
}

func mkdir(t *testing.T, root string, names ...string) {
	t.Helper()
	for _, name := range names {
		must(t, os.Mkdir(filepath.Join(root, name), 0o755))
		mode(t, root, name, 0o755)
	}
}

func write(t *testing.T, root, name, text string) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(root, name), []byte(text), 0o644))
	mode(t, root, name, 0o644)
}

func mode(t *testing.T, root, name string, mode uint32) {
	t.Helper()
	must(t, syscall.Chmod(filepath.Join(root, name), mode)) // not os.Chmod, which has the sticky bit elsewhere
}

func own(t *testing.T, root, name string, uid, gid int) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("takes root")
	}
	must(t, os.Chown(filepath.Join(root, name), uid, gid))
}

func link(t *testing.T, root, to, name string) {
	t.Helper()
	must(t, os.Symlink(to, filepath.Join(root, name)))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// descriptors returns the number of open descriptors of this process, those of Go's poller
// included.
func descriptors(t *testing.T) int {
	t.Helper()
	r, w, err := os.Pipe() // starts the poller
	must(t, errors.Join(err, r.Close(), w.Close()))
	names, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(names)
}

const file = "/etc/libvirt/protected-domains"

func TestRead(t *testing.T) {
	tests := []struct {
		name    string
		setup   func(t *testing.T, root string)
		path    string // file, if ""
		want    string // of the error, with ROOT for the root folder; "" means it is read
		missing bool   // want errors.Is(err, fs.ErrNotExist)
		why     string
	}{
		{"plain", func(t *testing.T, root string) {}, "", "", false, "the common case"},
		{"private", func(t *testing.T, root string) { mode(t, root, file, 0o600) }, "", "", false, "nobody else need read it"},
		{"of_the_limit's_size", func(t *testing.T, root string) { write(t, root, file, strings.Repeat("x", 100)) }, "", "", false, "at most, not less than"},

		{"missing", func(t *testing.T, root string) { must(t, os.Remove(filepath.Join(root, file))) }, "",
			"ROOT/etc/libvirt/protected-domains: is missing; create it", true, "an optional file may be missing"},
		{"missing_folder", func(t *testing.T, root string) {}, "/etc/stopguard/policy",
			"ROOT/etc/stopguard: is missing; create it", true, "with its folder, too"},
		{"not_a_folder", func(t *testing.T, root string) {}, file + "/x",
			"ROOT/etc/libvirt/protected-domains: is not a folder; move it away, or correct the path", false, "ENOTDIR is a mistake, not an absence"},
		{"missing_below_a_writable_folder", func(t *testing.T, root string) {
			must(t, os.Remove(filepath.Join(root, file)))
			mode(t, root, "etc", 0o777)
		}, "", "ROOT/etc: is writable by everyone (mode 0777); chmod go-w ROOT/etc", false, "who may write there may have removed it"},

		{"link", func(t *testing.T, root string) {
			must(t, os.Rename(filepath.Join(root, file), filepath.Join(root, "etc/list")))
			link(t, root, "../list", file)
		}, "", "ROOT/etc/libvirt/protected-domains: is a link, and links are not followed; put what it leads to in its place", false,
			"even to a file that would be accepted"},
		{"dangling_link", func(t *testing.T, root string) {
			must(t, os.Remove(filepath.Join(root, file)))
			link(t, root, "nowhere", file)
		}, "", "ROOT/etc/libvirt/protected-domains: is a link, and links are not followed; put what it leads to in its place", false,
			"a link that leads nowhere is not a missing file: somebody meant a list"},
		{"linked_folder", func(t *testing.T, root string) {
			must(t, os.Rename(filepath.Join(root, "etc/libvirt"), filepath.Join(root, "etc/virt")))
			link(t, root, "virt", "etc/libvirt")
		}, "", "ROOT/etc/libvirt: is a link, and links are not followed; put what it leads to in its place", false, "folders of the path count"},
		{"dangling_folder_link", func(t *testing.T, root string) { link(t, root, "nowhere", "etc/stopguard") }, "/etc/stopguard/policy",
			"ROOT/etc/stopguard: is a link, and links are not followed; put what it leads to in its place", false, "nor is this missing"},

		{"folder", func(t *testing.T, root string) {}, "/etc/libvirt",
			"ROOT/etc/libvirt: is a folder, not a regular file; put a regular file in its place", false, "must be regular"},
		{"fifo", func(t *testing.T, root string) { must(t, unix.Mkfifo(filepath.Join(root, "etc/fifo"), 0o644)) }, "/etc/fifo",
			"ROOT/etc/fifo: is a FIFO, not a regular file; put a regular file in its place", false, "would wait for a writer for ever"},
		{"device", func(t *testing.T, root string) {
			own(t, root, "etc", 0, 0)
			if err := unix.Mknod(filepath.Join(root, "etc/zero"), unix.S_IFCHR|0o644, int(unix.Mkdev(1, 5))); err != nil {
				t.Skip(err)
			}
		}, "/etc/zero", "ROOT/etc/zero: is a device, not a regular file; put a regular file in its place", false, "would never end"},

		{"too_long", func(t *testing.T, root string) { write(t, root, file, strings.Repeat("x", 101)) }, "",
			"ROOT/etc/libvirt/protected-domains: is longer than 100 bytes; make it shorter", false, "one byte over"},
		{"sparse", func(t *testing.T, root string) { must(t, os.Truncate(filepath.Join(root, file), 1<<40)) }, "",
			"ROOT/etc/libvirt/protected-domains: is longer than 100 bytes; make it shorter", false, "a terabyte that takes no room must take no memory either"},

		{"writable_by_everyone", func(t *testing.T, root string) { mode(t, root, file, 0o646) }, "",
			"ROOT/etc/libvirt/protected-domains: is writable by everyone (mode 0646); chmod go-w ROOT/etc/libvirt/protected-domains", false, "anybody's word"},
		{"sticky_folder", func(t *testing.T, root string) { mode(t, root, "etc", 0o1777) }, "",
			"ROOT/etc: is writable by everyone (mode 1777); put what lies there into a folder that only root may write", false, "anybody may still add a file, and a chmod of /tmp would break the host"},
		{"writable_root_folder", func(t *testing.T, root string) { mode(t, root, ".", 0o757) }, "",
			"ROOT: is writable by everyone (mode 0757); chmod go-w ROOT", false, "up to and including the root"},
		{"writable_by_root's_group", func(t *testing.T, root string) {
			own(t, root, file, 0, 0)
			mode(t, root, file, 0o664)
		}, "", "", false, "who is in root's group is as good as root"},
		{"writable_by_another_group", func(t *testing.T, root string) {
			own(t, root, file, 0, other)
			mode(t, root, file, 0o664)
		}, "", "ROOT/etc/libvirt/protected-domains: is writable by the group 4242 (mode 0664); chmod go-w ROOT/etc/libvirt/protected-domains", false, "others than its owner"},
		{"readable_by_another_group", func(t *testing.T, root string) { own(t, root, file, 0, other) }, "", "", false, "reading decides nothing"},
		{"folder_writable_by_another_group", func(t *testing.T, root string) {
			own(t, root, "etc/libvirt", 0, other)
			mode(t, root, "etc/libvirt", 0o770)
		}, "", "ROOT/etc/libvirt: is writable by the group 4242 (mode 0770); chmod go-w ROOT/etc/libvirt", false, "the group may exchange the file"},
		{"of_another_owner", func(t *testing.T, root string) { own(t, root, file, other, 0) }, "",
			"ROOT/etc/libvirt/protected-domains: is owned by uid 4242, not root; chown root: ROOT/etc/libvirt/protected-domains", false, "the owner may write, or let himself write"},
		{"folder_of_another_owner", func(t *testing.T, root string) { own(t, root, "etc", other, 0) }, "",
			"ROOT/etc: is owned by uid 4242, not root; chown root: ROOT/etc", false, "folders count as files do"},
		{"writable_through_an_access_control_list", func(t *testing.T, root string) {
			own(t, root, file, 0, 0)
			mode(t, root, file, 0o664)
			grant(t, filepath.Join(root, file))
		}, "", "ROOT/etc/libvirt/protected-domains: may be written by others through its access control list; chmod go-w ROOT/etc/libvirt/protected-domains", false,
			"its mode looks like that of a file of root's group, but a user named in the list may write"},
		{"masked_access_control_list", func(t *testing.T, root string) {
			grant(t, filepath.Join(root, file))
			mode(t, root, file, 0o644)
		}, "", "", false, "the cure for the row above cures: the mask takes writing from all that are named"},
		{"folder_writable_through_an_access_control_list", func(t *testing.T, root string) {
			own(t, root, "etc", 0, 0)
			mode(t, root, "etc", 0o775)
			grant(t, filepath.Join(root, "etc"))
		}, "", "ROOT/etc: may be written by others through its access control list; chmod go-w ROOT/etc", false, "a folder is open in a way that has no attributes"},

		{"relative", func(t *testing.T, root string) {}, "etc/libvirt", "etc/libvirt: is not an absolute path in its shortest form; write it from the root folder, without . or .. or doubled slashes", false, "relative to what?"},
		{"dots", func(t *testing.T, root string) {}, "/etc/../../etc", "/etc/../../etc: is not an absolute path in its shortest form; write it from the root folder, without . or .. or doubled slashes", false, "must not lead out of the root"},
		{"root_folder", func(t *testing.T, root string) {}, "/", "ROOT: is a folder, not a file; name a file", false, "no file at all"},
		{"name_for_a_terminal", func(t *testing.T, root string) { must(t, unix.Mkfifo(filepath.Join(root, "etc/a\n\x1b[2Jb"), 0o600)) }, "/etc/a\n\x1b[2Jb",
			`"ROOT/etc/a\n\x1b[2Jb": is a FIFO, not a regular file; put a regular file in its place`, false, "an error is one line of printable text"},
		{"name_for_a_shell", func(t *testing.T, root string) {
			write(t, root, "etc/it's; reboot", "")
			mode(t, root, "etc/it's; reboot", 0o666)
		}, "/etc/it's; reboot", `'ROOT/etc/it'\''s; reboot': is writable by everyone (mode 0666); chmod go-w 'ROOT/etc/it'\''s; reboot'`, false, "a cure is pasted into a shell"},
	}
	open := descriptors(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := host(t)
			write(t, root, file, "db-1\n")
			tt.setup(t, root)
			name := tt.path
			if name == "" {
				name = file
			}
			data, err := bounded(t, func() ([]byte, error) { return Root(root).Read(name, 100) })
			checkError(t, root, err, tt.want, tt.missing, tt.why)
			if tt.want == "" {
				want, err := os.ReadFile(filepath.Join(root, name))
				must(t, err)
				if !bytes.Equal(data, want) {
					t.Errorf("read %q, want %q (%s)", data, want, tt.why)
				}
			} else if data != nil {
				t.Errorf("read %q besides an error", data)
			}
		})
	}
	if now := descriptors(t); now != open {
		t.Errorf("%d descriptors were open before, %d after", open, now)
	}
}

func checkError(t *testing.T, root string, err error, want string, missing bool, why string) {
	t.Helper()
	got := ""
	if err != nil {
		got = strings.ReplaceAll(err.Error(), root, "ROOT")
	}
	if got != want {
		t.Errorf("error %q\nwant  %q (%s)", got, want, why)
	}
	if errors.Is(err, fs.ErrNotExist) != missing {
		t.Errorf("errors.Is(%v, fs.ErrNotExist) = %v, want %v (%s)", err, !missing, missing, why)
	}
}

// bounded fails the test if f blocks, as opening a FIFO would.
func bounded(t *testing.T, f func() ([]byte, error)) ([]byte, error) {
	t.Helper()
	var data []byte
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		data, err = f()
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("blocks")
	}
	return data, err
}

// grant sets an access control list by which another user may write.
func grant(t *testing.T, name string) {
	t.Helper()
	acl := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range []struct {
		tag, perm uint16
		id        uint32
	}{{0x01, 7, 1<<32 - 1}, {0x02, 6, other}, {0x04, 5, 1<<32 - 1}, {0x10, 7, 1<<32 - 1}, {0x20, 5, 1<<32 - 1}} {
		acl = binary.LittleEndian.AppendUint16(acl, e.tag)
		acl = binary.LittleEndian.AppendUint16(acl, e.perm)
		acl = binary.LittleEndian.AppendUint32(acl, e.id)
	}
	if err := unix.Setxattr(name, "system.posix_acl_access", acl, 0); err != nil {
		t.Skip("no access control lists here:", err)
	}
}

func TestRead_a_socket_is_not_opened(t *testing.T) {
	root := host(t)
	t.Chdir(root) // the path of a socket must be short
	l, err := net.Listen("unix", "socket")
	must(t, err)
	defer l.Close()
	_, err = Root(".").Read("/socket", 100)
	checkError(t, root, err, "socket: is a socket, not a regular file; put a regular file in its place", false, "")
}

func TestRead_a_file_that_is_not_as_long_as_it_said_has_changed(t *testing.T) {
	// A file whose length is unknown before the read behaves like one that grows at the right
	// moment.
	_, err := Root("").Read("/proc/version", 1<<20)
	checkError(t, "-", err, "/proc/version: changed while it was read; try again", false, "")
}

func TestRoot(t *testing.T) {
	root := host(t)
	write(t, root, file, "db-1\n")
	top := t.TempDir()
	link(t, top, root, "link")
	link(t, top, "nowhere", "dangling")
	link(t, top, filepath.Join(root, "etc"), "inner")
	tests := []struct {
		name string
		root Root
		want string
		why  string
	}{
		{"reached_through_a_link", Root(filepath.Join(top, "link")), "", "/var/run is one; who names the root decides"},
		{"above_a_link", Root(filepath.Join(top, "inner") + "/.."), "", "as the kernel reads it, not as a string"},
		{"missing", Root(filepath.Join(top, "missing")), "TOP/missing: the root folder is missing; create it, or name another root", "below a misspelt root every list is missing"},
		{"dangling", Root(filepath.Join(top, "dangling")), "TOP/dangling: the root folder is missing; create it, or name another root", "the same"},
		{"file", Root(filepath.Join(root, file)), filepath.Join(root, file) + ": the root is not a folder; name another root", "no folder at all"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := tt.root.Read(file, 100)
			checkError(t, top, err, strings.ReplaceAll(tt.want, "TOP", "ROOT"), false, tt.why)
			_, err = tt.root.ReadDir("/etc", Limits{})
			checkError(t, top, err, strings.ReplaceAll(tt.want, "TOP", "ROOT"), false, tt.why)
			err = tt.root.Judge("/etc")
			checkError(t, top, err, strings.ReplaceAll(tt.want, "TOP", "ROOT"), false, tt.why)
		})
	}
}

func TestJudge(t *testing.T) {
	for _, tt := range []struct {
		name, folder string
		setup        func(t *testing.T, root string)
		want         string
		missing      bool
		why          string
	}{
		{"plain", "/etc/libvirt", func(*testing.T, string) {}, "", false, "the common case"},
		{"the_root", "/", func(*testing.T, string) {}, "", false, "it is a folder like any other"},
		{"a_file_of_any_name_in_it", "/etc/libvirt", func(t *testing.T, root string) { link(t, root, "nowhere", "etc/libvirt/.none") }, "", false, "only the folder matters"},
		{"missing", "/etc/stopguard", func(*testing.T, string) {}, "ROOT/etc/stopguard: is missing; create it", true, "who needs it may make it"},
		{"writable", "/etc/libvirt", func(t *testing.T, root string) { mode(t, root, "etc/libvirt", 0o777) },
			"ROOT/etc/libvirt: is writable by everyone (mode 0777); chmod go-w ROOT/etc/libvirt", false, "anybody puts a file there"},
		{"writable_above", "/etc/libvirt", func(t *testing.T, root string) { mode(t, root, "etc", 0o777) },
			"ROOT/etc: is writable by everyone (mode 0777); chmod go-w ROOT/etc", false, "anybody exchanges it"},
		{"a_file", file, func(*testing.T, string) {}, "ROOT/etc/libvirt/protected-domains: is not a folder; move it away, or correct the path", false, "no folder"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := host(t)
			write(t, root, file, "db-1\n")
			tt.setup(t, root)
			before := descriptors(t)
			checkError(t, root, Root(root).Judge(tt.folder), tt.want, tt.missing, tt.why)
			if after := descriptors(t); after != before {
				t.Errorf("%d descriptors are left open", after-before)
			}
		})
	}
}

// TestRead_as_another_user runs as a user that is not root: this test binary again, if root runs
// it.
func TestRead_as_another_user(t *testing.T) {
	if os.Geteuid() == 0 {
		cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v") // the file itself is in a folder of root's alone
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: other, Gid: other, Groups: []uint32{other + 1}}}
		cmd.Env = []string{"TMPDIR=" + os.TempDir()}
		cmd.Dir = "/"
		out, err := cmd.CombinedOutput()
		if errors.Is(err, fs.ErrPermission) {
			t.Skip("cannot run as another user:", err)
		}
		if err != nil || !bytes.Contains(out, []byte("PASS: "+t.Name())) {
			t.Fatalf("as uid %d: %v\n%s", other, err, out)
		}
		return
	}
	groups, err := os.Getgroups()
	must(t, err)
	foreign := -1
	for _, g := range groups {
		if g != 0 && g != os.Getegid() {
			foreign = g
		}
	}
	tests := []struct {
		name  string
		gid   int
		mode  uint32
		want  string
		error error
		why   string
	}{
		{"plain", os.Getegid(), 0o644, "", nil, "his own file"},
		{"writable_by_the_own_group", os.Getegid(), 0o664, "", nil, "umask 002 and a group of his own are what many distributions give him"},
		{"writable_by_another_group", foreign, 0o664, fmt.Sprintf("ROOT/etc/libvirt/protected-domains: is writable by the group %d (mode 0664); chmod go-w ROOT/etc/libvirt/protected-domains", foreign), nil,
			"a group that he is in besides has others in it"},
		{"writable_by_everyone", os.Getegid(), 0o666, "ROOT/etc/libvirt/protected-domains: is writable by everyone (mode 0666); chmod go-w ROOT/etc/libvirt/protected-domains", nil, "everyone is others"},
		{"unreadable", os.Getegid(), 0, "ROOT/etc/libvirt/protected-domains: permission denied; run as root, or let the running user read it", fs.ErrPermission, "a list that cannot be read may protect anybody"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.gid < 0 {
				t.Skip("takes a second group")
			}
			root := host(t)
			write(t, root, file, "db-1\n")
			must(t, os.Chown(filepath.Join(root, file), -1, tt.gid))
			mode(t, root, file, tt.mode)
			_, err := Root(root).Read(file, 100)
			checkError(t, root, err, tt.want, false, tt.why)
			if tt.error != nil && !errors.Is(err, tt.error) {
				t.Errorf("error %v is not %v", err, tt.error)
			}
		})
	}
	t.Run("of_root", func(t *testing.T) {
		if _, err := Root("").Read("/etc/passwd", 1<<20); err != nil {
			t.Error(err)
		}
	})
}

func TestReadDir(t *testing.T) {
	root := host(t)
	mkdir(t, root, "etc/policy", "etc/policy/lib", "etc/policy/lib/deep", "etc/policy/empty", "etc/policy/.git")
	write(t, root, "etc/policy/b.rego", "package b")
	write(t, root, "etc/policy/a.rego", "package a")
	write(t, root, "etc/policy/empty.json", "")
	write(t, root, "etc/policy/lib/deep/c.rego", "package c")
	write(t, root, "etc/policy/.a.rego.swp", "x")
	mode(t, root, "etc/policy/.a.rego.swp", 0o666) // not looked at
	must(t, unix.Mkfifo(filepath.Join(root, "etc/policy/.git/fifo"), 0o600))
	link(t, root, "nowhere", "etc/policy/.#b.rego") // an editor's lock

	open := descriptors(t)
	fsys, err := Root(root).ReadDir("/etc/policy", Limits{})
	must(t, err)
	if now := descriptors(t); now != open {
		t.Errorf("%d descriptors were open before, %d after", open, now)
	}
	// Later changes on the disk do not count.
	must(t, os.RemoveAll(filepath.Join(root, "etc")))

	if err := fstest.TestFS(fsys, "a.rego", "b.rego", "empty.json", "lib/deep/c.rego"); err != nil {
		t.Error(err)
	}
	var got []string
	must(t, fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		must(t, err)
		if !d.IsDir() {
			data, err := fs.ReadFile(fsys, name)
			must(t, err)
			name += " " + string(data)
		}
		got = append(got, name)
		return nil
	}))
	want := ".|a.rego package a|b.rego package b|empty.json |lib|lib/deep|lib/deep/c.rego package c"
	if s := strings.Join(got, "|"); s != want {
		t.Errorf("walked %s\nwant   %s", s, want)
	}
}

func TestReadDir_refuses(t *testing.T) {
	small := Limits{Entries: 3, FileBytes: 10, Bytes: 15, Depth: 2}
	tests := []struct {
		name    string
		setup   func(t *testing.T, root string)
		path    string
		want    string
		missing bool
		why     string
	}{
		{"nothing", func(t *testing.T, root string) {
			mkdir(t, root, "etc/policy/a", "etc/policy/a/b")
			write(t, root, "etc/policy/a/b/c", "0123456789")
		}, "", "", false, "each limit is reached, none exceeded"},
		{"missing", func(t *testing.T, root string) {}, "/etc/stopguard", "ROOT/etc/stopguard: is missing; create it", true, "an optional folder may be missing"},
		{"file", func(t *testing.T, root string) { write(t, root, "etc/policy/a", "") }, "/etc/policy/a",
			"ROOT/etc/policy/a: is not a folder; move it away, or correct the path", false, "a mistake, not an absence"},
		{"link_to_folder", func(t *testing.T, root string) { link(t, root, "policy", "etc/link") }, "/etc/link",
			"ROOT/etc/link: is a link, and links are not followed; put what it leads to in its place", false, "as any folder of a path"},
		{"writable", func(t *testing.T, root string) { mode(t, root, "etc/policy", 0o777) }, "",
			"ROOT/etc/policy: is writable by everyone (mode 0777); chmod go-w ROOT/etc/policy", false, "anybody may add a file"},
		{"writable_folder_inside", func(t *testing.T, root string) {
			mkdir(t, root, "etc/policy/a")
			mode(t, root, "etc/policy/a", 0o777)
		}, "", "ROOT/etc/policy/a: is writable by everyone (mode 0777); chmod go-w ROOT/etc/policy/a", false, "all below is judged, even an empty folder"},
		{"writable_file_inside", func(t *testing.T, root string) {
			write(t, root, "etc/policy/a", "")
			mode(t, root, "etc/policy/a", 0o666)
		}, "", "ROOT/etc/policy/a: is writable by everyone (mode 0666); chmod go-w ROOT/etc/policy/a", false, "all below is judged"},
		{"dangling_link_inside", func(t *testing.T, root string) { link(t, root, "nowhere", "etc/policy/a") }, "",
			"ROOT/etc/policy/a: is a link, and links are not followed; put what it leads to in its place", false, "a rule that is not there is a rule missing"},
		{"link_to_folder_inside", func(t *testing.T, root string) { link(t, root, "..", "etc/policy/a") }, "",
			"ROOT/etc/policy/a: is a link, and links are not followed; put what it leads to in its place", false, "would go round in circles"},
		{"fifo_inside", func(t *testing.T, root string) { must(t, unix.Mkfifo(filepath.Join(root, "etc/policy/a"), 0o644)) }, "",
			"ROOT/etc/policy/a: is a FIFO, not a regular file; put a regular file in its place", false, "would wait for a writer for ever"},
		{"too_many", func(t *testing.T, root string) {
			for _, name := range []string{"a", "b", "c", "d", "e"} {
				write(t, root, "etc/policy/"+name, "")
			}
		}, "", "ROOT/etc/policy: holds more than 3 files and folders; move out what does not belong there", false, "bounded"},
		{"too_many_below", func(t *testing.T, root string) {
			mkdir(t, root, "etc/policy/a", "etc/policy/a/b", "etc/policy/c", "etc/policy/c/d")
		}, "", "ROOT/etc/policy: holds more than 3 files and folders; move out what does not belong there", false, "counted over all folders"},
		{"too_deep", func(t *testing.T, root string) { mkdir(t, root, "etc/policy/a", "etc/policy/a/b", "etc/policy/a/b/c") }, "",
			"ROOT/etc/policy/a/b/c: lies more than 2 folders deep; move it up", false, "bounded"},
		{"too_long", func(t *testing.T, root string) { write(t, root, "etc/policy/a", "0123456789x") }, "",
			"ROOT/etc/policy/a: is longer than 10 bytes; make it shorter", false, "bounded"},
		{"too_long_altogether", func(t *testing.T, root string) {
			write(t, root, "etc/policy/a", "01234567")
			write(t, root, "etc/policy/b", "01234567")
		}, "", "ROOT/etc/policy: its files are longer than 15 bytes altogether; move out what does not belong there", false, "bounded"},
		{"name_not_UTF-8", func(t *testing.T, root string) { write(t, root, "etc/policy/\xff", "") }, "",
			`"ROOT/etc/policy/\xff": its name is not UTF-8; rename it`, false, "io/fs has no such names"},
	}
	open := descriptors(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := host(t)
			mkdir(t, root, "etc/policy")
			tt.setup(t, root)
			name := tt.path
			if name == "" {
				name = "/etc/policy"
			}
			fsys, err := Root(root).ReadDir(name, small)
			checkError(t, root, err, tt.want, tt.missing, tt.why)
			if (fsys == nil) != (err != nil) {
				t.Errorf("got %v and %v", fsys, err)
			}
		})
	}
	if now := descriptors(t); now != open {
		t.Errorf("%d descriptors were open before, %d after", open, now)
	}
}

// A file that vanishes must never make the folder look missing, which would mean that the host does
// not have a policy.
func TestReadDir_while_files_come_and_go(t *testing.T) {
	root := host(t)
	mkdir(t, root, "etc/policy")
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			name := filepath.Join(root, "etc/policy", fmt.Sprint(i%20))
			if os.Remove(name) != nil {
				os.WriteFile(name, []byte("x"), 0o600)
			}
		}
	}()
	for range 500 {
		_, err := Root(root).ReadDir("/etc/policy", Limits{})
		if err != nil && (errors.Is(err, fs.ErrNotExist) || !strings.HasSuffix(err.Error(), "changed while it was read; try again")) {
			t.Error(err)
		}
	}
	close(stop)
	<-done
}
