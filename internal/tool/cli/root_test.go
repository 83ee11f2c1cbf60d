package cli

import (
	"fmt"
	"io/fs"
	"testing"
)

func TestNeedsRoot(t *testing.T) {
	t.Setenv("STOPGUARD_ROOT", "/srv/host")
	denied := func(path string) error {
		return fmt.Errorf("it cannot be read: %w; look at it", &fs.PathError{Op: "open", Path: path, Err: fs.ErrPermission})
	}
	for _, tt := range []struct {
		why  string
		err  error
		uid  int
		want string
	}{
		{"a file of the host", denied("/srv/host/run/libvirt/qemu/x.xml"), 1000, "only root may do this (/srv/host/run/libvirt/qemu/x.xml: permission denied); run it as root"},
		{"root itself has another trouble", denied("/srv/host/run/libvirt/qemu/x.xml"), 0, ""},
		{"a file of the user", denied("/home/anna/bundle.tar.gz"), 1000, ""},
		{"the file is missing", &fs.PathError{Op: "open", Path: "/srv/host/etc/x", Err: fs.ErrNotExist}, 1000, ""},
		{"a program was refused", refusal{}, 1000, "only root may do this (virsh list: no); run it as root"},
		{"an error that says itself who may", fmt.Errorf("hold: let root make a folder: %w", fs.ErrPermission), 1000, ""},
		{"no error", nil, 1000, ""},
	} {
		got := ""
		if err := needsRoot(tt.err, tt.uid); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.why, got, tt.want)
		}
	}
}

type refusal struct{}

func (refusal) Error() string        { return "it was refused" }
func (refusal) Refused() string      { return "virsh list: no" }
func (refusal) Is(target error) bool { return target == fs.ErrPermission }
