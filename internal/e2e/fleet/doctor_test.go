//go:build e2e

package fleet

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stopguard/stopguard/internal/fleetconfig"
	"github.com/stopguard/stopguard/internal/testhost"
)

// toolProgram is the operator's tool, as .ci/e2e built it.
const toolProgram = "STOPGUARD_E2E_TOOL"

type finding struct{ ID, Severity, What, Cure string }

// doctor returns what doctor finds about the fleet of a host, without what is well.
func (h *host) doctor() []finding {
	h.t.Helper()
	program := os.Getenv(toolProgram)
	if program == "" {
		h.t.Fatalf("%s does not name the tool; run .ci/e2e", toolProgram)
	}
	cmd := exec.Command(program, "doctor", "-o", "json")
	cmd.Env = append(os.Environ(), "STOPGUARD_ROOT="+h.root)
	output, err := cmd.Output()
	if err != nil && !errors.As(err, new(*exec.ExitError)) {
		h.t.Fatal(err)
	}
	var report struct{ Findings []finding }
	if err := json.Unmarshal(output, &report); err != nil {
		h.t.Fatalf("%v: %s", err, output)
	}
	var ill []finding
	asked := false
	for _, f := range report.Findings {
		if strings.HasPrefix(f.ID, "fleet") {
			asked = true
			if f.Severity != "ok" {
				ill = append(ill, f)
			}
		}
	}
	if !asked {
		h.t.Fatalf("nothing about the fleet: %+v", report.Findings)
	}
	return ill
}

// says waits until doctor finds one fault, with these words in what is wrong and what to do.
func (h *host) says(id, severity, what, cure string) {
	h.t.Helper()
	eventually(h.t, "doctor says "+what, func() error {
		ill := h.doctor()
		for _, f := range ill {
			if f.ID == id && f.Severity == severity && strings.Contains(f.What, what) && strings.Contains(f.Cure, cure) {
				return nil
			}
		}
		return fmt.Errorf("it says %+v", ill)
	})
}

func (h *host) isWell() {
	h.t.Helper()
	eventually(h.t, "doctor finds nothing", func() error {
		if ill := h.doctor(); len(ill) > 0 {
			return fmt.Errorf("it says %+v", ill)
		}
		return nil
	})
}

// configure writes the agent's configuration, which a running agent has read already.
func (h *host) configure(s fleetconfig.Settings) {
	content, err := json.Marshal(map[string]any{"stopguard": map[string]any{"fleet": s}}) // JSON is YAML
	if err != nil {
		h.t.Fatal(err)
	}
	testhost.Put(h.t, h.root, "etc/stopguard/agent.yaml", string(content))
}

func TestDoctorSaysWhatIsWrongWithAFleet(t *testing.T) {
	c := newCluster(t, "kvm-1", "kvm-2")
	one, two := c.newHost("kvm-1", pgData), c.newHost("kvm-2", pgData)
	pg2 := newGuest("pg-2", uuidOf(2)) // a host publishes the groups of its own members
	if err := pg2.start(two); err != nil {
		t.Fatal(err)
	}
	defer pg2.end(two)
	one.isWell()
	two.isWell()
	good := c.settings("kvm-1")
	with := func(spoil func(*fleetconfig.Settings)) {
		s := c.settings("kvm-1")
		spoil(&s)
		one.configure(s)
	}
	other := &cluster{t: t, dir: t.TempDir()}
	other.setup("ca", other.pki())
	other.setup("host", other.pki(), "kvm-1")

	t.Run("the files", func(t *testing.T) {
		key := c.file("kvm-1.key")
		chmod(t, key, 0o644)
		one.says("fleet-files", "warning", key+" can be read by others", "chmod 600 "+key)
		chmod(t, key, 0o622)
		one.says("fleet-files", "warning", key+" can be changed by others", "chown root "+key+" && chmod 600 "+key)
		chmod(t, key, 0o600)
		with(func(s *fleetconfig.Settings) { s.Key = "/nonexistent/fleet.key" })
		one.says("fleet-files", "failure", "/nonexistent/fleet.key: no such file", "put it there")
		with(func(s *fleetconfig.Settings) { s.Key = c.file("kvm-2.key") })
		one.says("fleet-files", "failure", "private key does not match public key", "correct them")
		with(func(s *fleetconfig.Settings) { s.CA = c.file("kvm-1.key") })
		one.says("fleet-files", "failure", "holds no certificate", "write one in PEM into it")
		for _, tt := range []struct {
			from, until          time.Duration
			severity, what, cure string
		}{
			{-2 * time.Hour, -time.Hour, "failure", "has expired on", "make another with fleet-setup host"},
			{time.Hour, 2 * time.Hour, "failure", "is valid only from", "set the host's clock"},
			{-time.Hour, 24 * time.Hour, "warning", "expires on", "make another with fleet-setup host"},
		} {
			certificate, key := c.sign(tt.from, tt.until)
			with(func(s *fleetconfig.Settings) { s.Certificate, s.Key = certificate, key })
			one.says("fleet-files", tt.severity, tt.what, tt.cure)
		}
	})
	t.Run("the certificates", func(t *testing.T) {
		with(func(s *fleetconfig.Settings) { s.CA = other.file("ca.crt") })
		one.says("fleet-etcd", "failure", "unknown authority", "put the certificate of etcd's authority")
		with(func(s *fleetconfig.Settings) {
			s.Certificate, s.Key = other.file("kvm-1.crt"), other.file("kvm-1.key")
		})
		one.says("fleet-etcd", "failure", "remote error: tls", "etcd refuses "+other.file("kvm-1.crt"))
		with(func(s *fleetconfig.Settings) {
			s.Endpoints[0] = pass(t, "10.0.0.254", s.Endpoints[0], after(0), after(0))
		})
		one.says("fleet-etcd", "warning", "not 10.0.0.254", "write an address that its certificate has")
	})
	one.configure(good)
	one.isWell()

	t.Run("etcd", func(t *testing.T) {
		with(func(s *fleetconfig.Settings) {
			s.Endpoints[2] = pass(t, "127.0.0.1", s.Endpoints[2], after(300*time.Millisecond), after(300*time.Millisecond))
		})
		one.says("fleet-etcd", "warning", "to answer", "look at its disk, its load and the network")
		one.configure(good)
		c.nodes[2].signal(syscall.SIGSTOP)
		one.says("fleet-etcd", "warning", "etcd at "+c.nodes[2].client+": ", "look at etcd there: it hangs")
		c.nodes[2].signal(syscall.SIGCONT)
		one.isWell()
		c.nodes[2].kill()
		one.says("fleet-etcd", "warning", "connection refused", "start etcd there")
		c.nodes[1].kill()
		one.says("fleet-etcd", "failure", "etcd at "+c.nodes[0].client+" answers that it is not healthy", "look at the other etcds")
		one.says("fleet-etcd", "failure", "connection refused", "start etcd there")
		one.says("fleet-agent", "failure", "publishing the host's members: ", "mend what fleet-etcd says")
		c.nodes[1].start()
		c.nodes[2].start()
		one.isWell()
	})
	t.Run("the hosts", func(t *testing.T) {
		data := "etc/stopguard/policy/data.yaml"
		testhost.Put(t, two.root, data, strings.Replace(pgData, "min: 1", "min: 2", 1))
		one.says("fleet-groups", "warning", "the hosts disagree about the group pg", "set it the same on all hosts")
		testhost.Put(t, two.root, data, pgData)
		one.isWell()
		testhost.Put(t, one.root, data, "site: {}\n")
		one.says("fleet-groups", "warning", "this host does not have the group pg of kvm-2", "set it on all hosts")
		testhost.Put(t, one.root, data, pgData)
		one.isWell()
		two.kill()
		one.says("fleet-hosts", "warning", "the lease of kvm-2 has ended", "etcdctl del --prefix /stopguard/hosts/kvm-2/")
		two.start()
		one.isWell()
	})
	t.Run("the agent", func(t *testing.T) {
		with(func(s *fleetconfig.Settings) { s.Endpoints[0] = "http://10.0.0.1:2379" })
		one.says("fleet", "failure", "no member of the fleet's groups may be stopped", "write https://HOST:2379")
		one.configure(good)
		one.kill()
		one.says("fleet-agent", "failure", "the agent does not answer", "start stopguard-agent")
		testhost.Put(t, one.root, "etc/stopguard/agent.yaml", "stopguard: {}\n")
		one.start()
		one.says("fleet", "failure", "no member of pg may be stopped: this host takes part in no fleet", "set stopguard.fleet in")
		one.configure(good)
		one.says("fleet-agent", "failure", "the agent was started before", "systemctl restart stopguard-agent")
		one.kill()
		with(func(s *fleetconfig.Settings) { s.Certificate, s.Key = c.file("kvm-2.crt"), c.file("kvm-2.key") })
		one.start()
		one.says("fleet-agent", "failure", "permission denied", "give this host its role")
		one.kill()
		one.configure(good)
		one.start()
		one.isWell()
	})
}

func chmod(t testing.TB, file string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(file, mode); err != nil {
		t.Fatal(err)
	}
}

// sign returns the files of another certificate of kvm-1 and its key, valid from and until so long
// from now.
func (c *cluster) sign(from, until time.Duration) (certificate, key string) {
	c.t.Helper()
	must := func(err error) {
		c.t.Helper()
		if err != nil {
			c.t.Fatal(err)
		}
	}
	ca, err := tls.LoadX509KeyPair(c.file("ca.crt"), c.file("ca.key"))
	must(err)
	issuer, err := x509.ParseCertificate(ca.Certificate[0])
	must(err)
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "host-kvm-1"},
		NotBefore: time.Now().Add(from), NotAfter: time.Now().Add(until), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, issuer, &private.PublicKey, ca.PrivateKey)
	must(err)
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	must(err)
	dir := c.t.TempDir()
	certificate, key = filepath.Join(dir, "fleet.crt"), filepath.Join(dir, "fleet.key")
	must(os.WriteFile(certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	must(os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600))
	return certificate, key
}
