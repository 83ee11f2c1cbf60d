package policy

import (
	"os"
	"path/filepath"
	"testing"
)

func newRoot(t *testing.T, pairs ...string) string {
	t.Helper()
	root := t.TempDir()
	for i := 0; i < len(pairs); i += 2 {
		file := filepath.Join(root, pairs[i])
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(pairs[i+1]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestAHostMayHaveNothing(t *testing.T) {
	c, err := HostConfig(newRoot(t))
	if err != nil || len(c.Sites) != 0 || c.List != nil {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestWhatAHostHasIsReadOrRefused(t *testing.T) {
	tests := []struct {
		name, why string
		files     []string
		want      []string
	}{
		{"a bundle that is none", "", []string{"etc/stopguard/bundle.tar.gz", "x"}, []string{"/etc/stopguard/bundle.tar.gz"}},
		{"an empty bundle", "a half-written one", []string{"etc/stopguard/bundle.tar.gz", ""}, []string{"/etc/stopguard/bundle.tar.gz"}},
		{"a key without a bundle", "somebody took the bundle away, and with it its vetoes",
			[]string{"etc/stopguard/bundle.pem", "x"}, []string{"/etc/stopguard/bundle.pem", "no bundle"}},
		{"an empty key", "it would verify nothing",
			[]string{"etc/stopguard/bundle.pem", "", "etc/stopguard/bundle.tar.gz", "x"}, []string{"/etc/stopguard/bundle"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := HostConfig(newRoot(t, tt.files...))
			wantError(t, err, append(tt.want, "; ")...)
		})
	}
}
