package hostfile

import (
	"os"
	"path/filepath"
	"testing"
)

func TestReplace(t *testing.T) {
	folder, via := t.TempDir(), t.TempDir()
	if err := os.Mkdir(filepath.Join(folder, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, why string
		replace   func(path string) error
		isError   bool
	}{
		{"file", "a new one", func(path string) error { return Replace(path, []byte("new"), 0o644) }, false},
		{"file", "one that is there", func(path string) error { return Replace(path, []byte("new"), 0o644) }, false},
		{"file", "from another folder", func(path string) error { return ReplaceVia(via, path, []byte("new"), 0o644) }, false},
		{"sub", "a folder is in its place", func(path string) error { return Replace(path, []byte("new"), 0o644) }, true},
		{"none/file", "its folder is missing", func(path string) error { return Replace(path, []byte("new"), 0o644) }, true},
	}
	for _, tt := range tests {
		path := filepath.Join(folder, tt.name)
		err := tt.replace(path)
		if (err != nil) != tt.isError {
			t.Errorf("%s: %v (%s)", tt.name, err, tt.why)
		}
		if !tt.isError {
			info, err := os.Stat(path)
			content, readErr := os.ReadFile(path)
			if err != nil || readErr != nil || string(content) != "new" || info.Mode() != 0o644 {
				t.Errorf("%s: %q, %v, %v, %v (%s)", tt.name, content, info.Mode(), err, readErr, tt.why)
			}
		}
		for _, f := range []string{folder, via} {
			if left, _ := filepath.Glob(filepath.Join(f, TempPrefix+"*")); len(left) > 0 {
				t.Errorf("%s: %q is left (%s)", tt.name, left, tt.why)
			}
		}
	}
}

// A program that still reads or runs the old file must not find the new content in it.
func TestReplaceLeavesTheOldFileToItsReaders(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := Replace(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := Replace(path, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	content := make([]byte, 3)
	if _, err := f.ReadAt(content, 0); err != nil || string(content) != "old" {
		t.Errorf("%q, %v", content, err)
	}
}
