package host

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDpkgAndRPMAreAskedWhoseAFileIs(t *testing.T) {
	t.Parallel()
	if b, ok := packages(t.TempDir() + "/nobody's"); ok {
		t.Error(b)
	}
	for _, file := range []string{"/usr/bin/dpkg", "/usr/bin/rpm"} {
		name := filepath.Base(file)
		if _, err := os.Stat(file); err != nil {
			continue // a machine has the one or the other, or none
		}
		if _, err := os.Stat(map[string]string{"dpkg": "/var/lib/dpkg/info/dpkg.list", "rpm": "/var/lib/rpm/rpmdb.sqlite"}[name]); err != nil {
			continue
		}
		if b, ok := packages(file); !ok || b.Name != name || !strings.Contains(b.Again, "reinstall "+name) && !strings.Contains(b.Again, "--reinstall "+name) {
			t.Error(file, b, ok)
		}
	}
}
