//go:build e2e

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const token = "a-token-that-nobody-guesses"

// certificate writes a certificate of its own for 127.0.0.1.
func (h *host) certificate() {
	h.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		h.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		h.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		h.t.Fatal(err)
	}
	h.write("agent.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	h.write("agent.key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	h.write("agent.token", token)
}

func TestPrometheusScrapesTheAgent(t *testing.T) {
	n := newNginx(t)
	n.put(bundle(t, "r1"))
	h := newHost(t, "")
	h.certificate()
	address := freeAddress(t)
	h.write("/etc/stopguard/agent.yaml", n.config(fmt.Sprintf(
		"stopguard: {listen: {address: '%s', certificate: %s, key: %s, token_file: /agent.token}}\n",
		address, filepath.Join(h.root, "agent.crt"), filepath.Join(h.root, "agent.key"))))
	h.start()
	eventually(t, "the bundle decides", func() error { return h.decides("veto: r1") })

	metrics, err := h.get("/metrics")
	if err != nil {
		t.Fatal(err)
	}
	lint := exec.Command("promtool", "check", "metrics")
	lint.Stdin = strings.NewReader(metrics)
	if out, err := lint.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool: %v\n%s", err, out)
	}

	folder := t.TempDir()
	config := filepath.Join(folder, "prometheus.yml")
	content := fmt.Sprintf(`
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
  - job_name: stopguard
    scheme: https
    tls_config: {ca_file: %[1]s/agent.crt}
    authorization: {credentials_file: %[1]s/agent.token}
    static_configs: [{targets: ['%[2]s']}]
`, h.root, address)
	if err := os.WriteFile(config, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	web := freeAddress(t)
	run(t, nil, "prometheus", "--config.file="+config, "--storage.tsdb.path="+folder+"/data", "--web.listen-address="+web)
	for query, want := range map[string]string{
		`stopguard_bundle_info{bundle="fleet",revision="r1"}`: "1",
		`stopguard_ready`: "1",
		`stopguard_decisions_total{outcome="fault"}`: "0",
		`up{job="stopguard"}`:                        "1",
	} {
		eventually(t, "Prometheus knows "+query, func() error { return checkQuery(web, query, want) })
	}
	eventually(t, "Prometheus counts vetoes", func() error {
		return checkQuery(web, `stopguard_decisions_total{outcome="veto"} > bool 0`, "1")
	})
}

// checkQuery returns an error unless Prometheus answers the query as wanted.
func checkQuery(address, query, want string) error {
	response, err := http.Get("http://" + address + "/api/v1/query?query=" + url.QueryEscape(query))
	if err != nil {
		return err
	}
	defer response.Body.Close()
	var answer struct {
		Data struct {
			Result []struct{ Value [2]any }
		}
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return err
	}
	if len(answer.Data.Result) != 1 || answer.Data.Result[0].Value[1] != want {
		return fmt.Errorf("it says %v, not %s", answer.Data.Result, want)
	}
	return nil
}
