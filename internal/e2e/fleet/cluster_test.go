//go:build e2e

// Package fleet tests the fleet's groups with a real etcd of three members, with TLS, client
// certificates and a role for each host, as packaging/stopguard-agent/fleet-setup makes them.
package fleet

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/stopguard/stopguard/internal/fleetconfig"
)

const setup = "../../../packaging/stopguard-agent/fleet-setup"

// A cluster is an etcd of three members.
type cluster struct {
	t     testing.TB
	dir   string // certificates and data
	nodes []*node
}

// A node is a member of the cluster, as a process that may be killed and started again.
type node struct {
	t            testing.TB
	name         string // of its network namespace, too
	client, peer string // URLs
	args         []string
	log          *os.File
	cmd          *exec.Cmd
}

// newCluster starts etcd and gives roles to hosts.
func newCluster(t testing.TB, hosts ...string) *cluster {
	t.Helper()
	c := &cluster{t: t, dir: t.TempDir()}
	c.setup("ca", c.pki())
	var initial []string
	for i, name := range etcdNames {
		n := &node{t: t, name: name, client: "https://" + etcdAddress(i) + ":2379", peer: "https://" + etcdAddress(i) + ":2380"}
		c.nodes = append(c.nodes, n)
		initial = append(initial, n.name+"="+n.peer)
		c.setup("etcd", c.pki(), n.name, etcdAddress(i), "127.0.0.1")
	}
	for _, host := range hosts {
		c.setup("host", c.pki(), host)
	}
	for _, n := range c.nodes {
		log, err := os.Create(filepath.Join(c.dir, n.name+".log"))
		if err != nil {
			t.Fatal(err)
		}
		n.log = log
		certificate, key, ca := c.file(n.name+".crt"), c.file(n.name+".key"), c.file("ca.crt")
		n.args = []string{
			"--name", n.name, "--data-dir", filepath.Join(c.dir, n.name),
			"--listen-client-urls", n.client, "--advertise-client-urls", n.client,
			"--listen-peer-urls", n.peer, "--initial-advertise-peer-urls", n.peer,
			"--initial-cluster", strings.Join(initial, ","), "--initial-cluster-state", "new",
			"--cert-file", certificate, "--key-file", key, "--trusted-ca-file", ca, "--client-cert-auth",
			"--peer-cert-file", certificate, "--peer-key-file", key, "--peer-trusted-ca-file", ca, "--peer-client-cert-auth",
			"--logger", "zap", "--log-level", "warn",
		}
		n.start()
	}
	t.Cleanup(func() {
		for _, n := range c.nodes {
			n.kill()
			n.cut(false)
			n.isolate(false)
		}
		if t.Failed() {
			for _, n := range c.nodes {
				content, _ := os.ReadFile(n.log.Name())
				t.Logf("the end of %s's log:\n%s", n.name, content[max(0, len(content)-2000):])
			}
		}
	})
	c.waitForQuorum()
	c.setup(append([]string{"roles", c.pki(), strings.Join(c.endpoints(), ",")}, hosts...)...)
	return c
}

func (c *cluster) pki() string             { return filepath.Join(c.dir, "pki") }
func (c *cluster) file(name string) string { return filepath.Join(c.pki(), name) }

func (c *cluster) endpoints() []string {
	var endpoints []string
	for _, n := range c.nodes {
		endpoints = append(endpoints, n.client)
	}
	return endpoints
}

func (c *cluster) setup(args ...string) {
	c.t.Helper()
	if output, err := exec.Command(setup, args...).CombinedOutput(); err != nil {
		c.t.Fatalf("fleet-setup %s: %v\n%s", args[0], err, output)
	}
}

// settings are a host's for this cluster.
func (c *cluster) settings(host string) fleetconfig.Settings {
	return fleetconfig.Settings{
		Endpoints: c.endpoints(), CA: c.file("ca.crt"), Certificate: c.file(host + ".crt"), Key: c.file(host + ".key"),
		Host: host, LeaseSeconds: 5, ReservationSeconds: 10,
	}
}

// client returns a client with the certificate of a host, or of root.
func (c *cluster) client(name string) *clientv3.Client {
	c.t.Helper()
	pair, err := tls.LoadX509KeyPair(c.file(name+".crt"), c.file(name+".key"))
	if err != nil {
		c.t.Fatal(err)
	}
	ca, err := os.ReadFile(c.file("ca.crt"))
	if err != nil {
		c.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	client, err := clientv3.New(clientv3.Config{
		Endpoints: c.endpoints(), TLS: &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: pool}, Logger: zap.NewNop(),
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = client.Close() })
	return client
}

// waitForQuorum waits until the cluster answers.
func (c *cluster) waitForQuorum() {
	c.t.Helper()
	client := c.client("root")
	eventually(c.t, "etcd answers", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := client.Get(ctx, "x")
		return err
	})
}

func (n *node) start() {
	n.t.Helper()
	n.cmd = exec.Command("ip", append([]string{"netns", "exec", n.name, etcdProgram()}, n.args...)...) // becomes etcd
	n.cmd.Stdout, n.cmd.Stderr = n.log, n.log
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := n.cmd.Start(); err != nil {
		n.t.Error(err)
	}
}

// etcdProgram is Debian's etcd, or the one that STOPGUARD_E2E_ETCD names.
func etcdProgram() string { return cmp.Or(os.Getenv("STOPGUARD_E2E_ETCD"), "etcd") }

func (n *node) kill() {
	if n.cmd != nil {
		_ = n.cmd.Process.Kill()
		_ = n.cmd.Wait()
		n.cmd = nil
	}
}

func (n *node) signal(s os.Signal) { _ = n.cmd.Process.Signal(s) }

// eventually waits until check returns nil.
func eventually(t testing.TB, what string, check func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err = check(); err == nil {
			return
		}
	}
	t.Fatalf("not within a minute: %s: %v", what, err)
}
