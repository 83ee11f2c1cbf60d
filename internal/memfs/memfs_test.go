package memfs

import (
	"testing"
	"testing/fstest"
)

func TestATreeIsWhatIoFsExpects(t *testing.T) {
	files := map[string][]byte{"a.rego": []byte("a"), "lib/deep/b.rego": []byte("b"), "lib/empty": nil}
	if err := fstest.TestFS(New(files), "a.rego", "lib/deep/b.rego", "lib/empty"); err != nil {
		t.Error(err)
	}
	if err := fstest.TestFS(New(nil)); err != nil {
		t.Error(err)
	}
}
