//go:build linux

package hostfile

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestAStampIsOfNoUseUntilItsFilesHaveSettled(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	path := filepath.Join(root, "list")
	if err := os.WriteFile(path, []byte("a"), 0o644); err != nil {
		t.Fatal(err)
	}
	fresh := Root(root).Stamp("/list")
	if fresh.Settled() || fresh.Same(Root(root).Stamp("/list")) {
		t.Error("a file that was written just now could be written again at the same time")
	}
	for deadline := time.Now().Add(time.Minute); !Root(root).Stamp("/list").Settled(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it never settles")
		}
	}
	settled := Root(root).Stamp("/list")
	if !settled.Same(Root(root).Stamp("/list")) {
		t.Error("nothing has changed")
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if settled.Same(Root(root).Stamp("/list")) {
		t.Error("its mode has changed")
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
