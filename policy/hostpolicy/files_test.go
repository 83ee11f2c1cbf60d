package hostpolicy

import (
	"testing"

	"github.com/stopguard/stopguard/internal/testhost"
)

func TestAHostMayHaveNothing(t *testing.T) {
	c, err := Load(testhost.Root(t))
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
			_, err := Load(testhost.Root(t, tt.files...))
			testhost.WantError(t, err, append(tt.want, "; ")...)
		})
	}
}
