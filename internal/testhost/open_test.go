package testhost

import (
	"os"
	"path/filepath"
	"testing"
)

func TestOpenToAllOnlyAddsPermissions(t *testing.T) {
	shared := filepath.Join(t.TempDir(), "shared") // as /tmp is
	folder := filepath.Join(shared, "test", "root")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(shared, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	OpenToAll(t, folder)
	for dir, want := range map[string]os.FileMode{shared: 0o777 | os.ModeSticky, filepath.Dir(folder): 0o755, folder: 0o755} {
		info, err := os.Stat(dir)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode() &^ os.ModeDir; got != want {
			t.Errorf("%s is %v, want %v", dir, got, want)
		}
	}
}
