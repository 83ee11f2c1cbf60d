package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/stopguard/stopguard/internal/fleetconfig"
)

// An etcd is three members on loopback.
type etcd struct {
	dir       string
	endpoints []string
	nodes     []*exec.Cmd
	tls       *tls.Config
}

// startEtcd starts etcd, with one user that may do what all hosts together may.
func startEtcd() (_ *etcd, err error) {
	e := &etcd{}
	defer func() {
		if err != nil {
			e.close()
		}
	}()
	if e.dir, err = os.MkdirTemp("", "sgetcd"); err != nil {
		return nil, err
	}
	if err := e.setup("ca", e.path("pki")); err != nil {
		return nil, err
	}
	var peers, initial []string
	for i := range 3 {
		client, peer := freeAddress(), freeAddress()
		e.endpoints, peers = append(e.endpoints, "https://"+client), append(peers, "https://"+peer)
		initial = append(initial, fmt.Sprintf("etcd-%d=%s", i, peers[i]))
		if err := e.setup("etcd", e.path("pki"), fmt.Sprintf("etcd-%d", i), "127.0.0.1"); err != nil {
			return nil, err
		}
	}
	for i := range 3 {
		name := fmt.Sprintf("etcd-%d", i)
		certificate, key, ca := e.path("pki", name+".crt"), e.path("pki", name+".key"), e.path("pki", "ca.crt")
		cmd := exec.Command("etcd", "--name", name, "--data-dir", e.path(name), "--log-level", "error", "--logger", "zap",
			"--listen-client-urls", e.endpoints[i], "--advertise-client-urls", e.endpoints[i],
			"--listen-peer-urls", peers[i], "--initial-advertise-peer-urls", peers[i], "--initial-cluster", strings.Join(initial, ","),
			"--cert-file", certificate, "--key-file", key, "--trusted-ca-file", ca, "--client-cert-auth",
			"--peer-cert-file", certificate, "--peer-key-file", key, "--peer-trusted-ca-file", ca, "--peer-client-cert-auth")
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		e.nodes = append(e.nodes, cmd)
	}
	settings := e.settings("root")
	if e.tls, err = settings.TLS(); err != nil {
		return nil, err
	}
	client, err := e.client()
	if err != nil {
		return nil, err
	}
	defer client.Close()
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_, err := client.Get(ctx, "x")
		cancel()
		if err == nil {
			break
		}
		if time.Now().After(end) {
			return nil, err
		}
	}
	// With authentication, as on hosts.
	return e, e.setup("roles", e.path("pki"), strings.Join(e.endpoints, ","), "unused")
}

func (e *etcd) close() {
	for _, cmd := range e.nodes {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	_ = os.RemoveAll(e.dir)
}

func (e *etcd) path(elements ...string) string {
	return filepath.Join(append([]string{e.dir}, elements...)...)
}

func (e *etcd) setup(args ...string) error {
	if output, err := exec.Command("packaging/stopguard-agent/fleet-setup", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("fleet-setup %s: %w: %s", args[0], err, output)
	}
	return nil
}

func (e *etcd) settings(host string) fleetconfig.Settings {
	return fleetconfig.Settings{
		Endpoints: e.endpoints, CA: e.path("pki", "ca.crt"), Certificate: e.path("pki", "root.crt"), Key: e.path("pki", "root.key"), Host: host,
	}
}

func (e *etcd) client() (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{Endpoints: e.endpoints, TLS: e.tls, DialTimeout: 30 * time.Second, Logger: zap.NewNop()})
}

// resident returns the memory of the member that holds most, in bytes.
func (e *etcd) resident() int64 {
	var most int64
	for _, cmd := range e.nodes {
		content, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
		_, rest, _ := strings.Cut(string(content), "VmRSS:")
		kib, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
		n, _ := strconv.ParseInt(kib, 10, 64)
		most = max(most, n<<10)
	}
	return most
}

// processor returns the processor time of all members.
func (e *etcd) processor() time.Duration {
	var ticks int64
	for _, cmd := range e.nodes {
		content, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
		fields := strings.Fields(string(content[strings.LastIndexByte(string(content), ')')+1:]))
		for _, i := range []int{11, 12} {
			n, _ := strconv.ParseInt(fields[i], 10, 64)
			ticks += n
		}
	}
	return time.Duration(ticks) * time.Second / 100
}

// counter returns the sum of a metric over its labels and all members.
func (e *etcd) counter(name string) (float64, error) {
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: e.tls.Clone(), DisableKeepAlives: true}}
	sum := 0.0
	for _, endpoint := range e.endpoints {
		response, err := client.Get(endpoint + "/metrics")
		if err != nil {
			return 0, err
		}
		content, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil {
			return 0, err
		}
		for line := range strings.Lines(string(content)) {
			label, value, ok := strings.Cut(line, " ")
			if ok && (label == name || strings.HasPrefix(label, name+"{")) {
				v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
				if err != nil {
					return 0, err
				}
				sum += v
			}
		}
	}
	return sum, nil
}

// carried returns the bytes that the loopback interface has carried.
func carried() (int64, error) {
	content, err := os.ReadFile("/proc/self/net/dev")
	if err != nil {
		return 0, err
	}
	_, rest, ok := strings.Cut(string(content), "lo:")
	if !ok {
		return 0, errors.New("there is no loopback interface")
	}
	return strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
}

func freeAddress() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer l.Close()
	return l.Addr().String()
}
