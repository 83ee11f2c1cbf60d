//go:build e2e

package fleet

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stopguard/stopguard/internal/fleet"
)

func TestACertificateIsReplacedUnderARunningAgent(t *testing.T) {
	c := newCluster(t, "kvm-1", "kvm-2")
	other := &cluster{t: t, dir: t.TempDir()}
	other.setup("ca", other.pki())
	other.setup("host", other.pki(), "kvm-1")
	one := c.join("kvm-1", "a", func(c *fleet.Config) {
		c.Certificate, c.Key = other.file("kvm-1.crt"), other.file("kvm-1.key")
	})
	one.has(domain(1))
	eventually(t, "etcd refuses the certificate", func() error {
		if text := fmt.Sprint(one.Status().Problems); !strings.Contains(text, "remote error: tls: ") {
			return errors.New(text)
		}
		return nil
	})
	for _, file := range []string{"kvm-1.crt", "kvm-1.key"} {
		content, err := os.ReadFile(c.file(file))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(other.file(file), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sees(t, c.join("kvm-2", "b"), "pg-1@kvm-1")
}
