//go:build linux

package hostfile

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

func TestAStampIsOfNoUseUntilItsFilesHaveSettled(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, "list")
	if err := os.WriteFile(path, []byte("a"), 0o644); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	// The bubble's clock begins in the past and is moved on. The file's times are the kernel's.
	synctest.Test(t, func(t *testing.T) {
		for _, age := range []time.Duration{-time.Second, 0, settling - time.Millisecond} {
			time.Sleep(time.Until(info.ModTime().Add(age)))
			if fresh := Root(root).Stamp("/list"); fresh.Settled() || fresh.Same(Root(root).Stamp("/list")) {
				t.Errorf("a file that was written %v ago could be written again at the same time", age)
			}
		}
		time.Sleep(2 * time.Millisecond)
		settled := Root(root).Stamp("/list")
		if !settled.Settled() || !settled.Same(Root(root).Stamp("/list")) {
			t.Error("nothing has changed")
		}
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
		if settled.Same(Root(root).Stamp("/list")) {
			t.Error("its mode has changed")
		}
	})
}

func TestAStampOfTheRootIsOfAllThatIsInIt(t *testing.T) {
	top := t.TempDir()
	folder, file := filepath.Join(top, "folder"), filepath.Join(top, "file")
	write := func(path, content string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(folder, "below", "rule"), "1")
	write(file, "1")
	for _, tt := range []struct {
		why, root, written string
		same               bool
	}{
		{"a file below it", folder, filepath.Join(folder, "below", "rule"), false},
		{"the root is a file itself", file, file, false},
		{"a file beside a folder", folder, file, true},
		{"a file beside a file", file, filepath.Join(top, "another"), true},
	} {
		t.Run(tt.why, func(t *testing.T) {
			before := Root(tt.root).Stamp("/")
			write(tt.written, "longer, for its time may be the same: "+tt.why)
			if same := Root(tt.root).Stamp("/").sum == before.sum; same != tt.same {
				t.Errorf("the same: %v", same)
			}
		})
	}
}

func TestAStampOfWhatCannotBeLookedAtIsOfNoUse(t *testing.T) {
	root := t.TempDir()
	long := make([]byte, 300)
	for i := range long {
		long[i] = 'a'
	}
	for _, name := range []string{"/" + string(long), "not/absolute"} {
		if Root(root).Stamp(name).Settled() {
			t.Errorf("%.20q is settled", name)
		}
	}
}
