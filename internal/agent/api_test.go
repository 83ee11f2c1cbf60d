package agent

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/server/types"

	"github.com/stopguard/stopguard/internal/testhost"
	"github.com/stopguard/stopguard/policy/hold"
)

func TestTheDataAPIAnswersAsOPADoes(t *testing.T) {
	h := newHost(t, "{}")
	h.write("/etc/libvirt/protected-domains", "web-01\n")
	a := h.start()
	for name, c := range map[string]struct {
		why, method, path, body string
		status                  int
		code, says              string
	}{
		"no JSON":         {"", "POST", decisionPath, "{", 400, types.CodeInvalidParameter, "no JSON"},
		"no input":        {"OPA would take it for an empty one", "POST", decisionPath, "{}", 400, types.CodeInvalidParameter, "no input"},
		"a null input":    {"", "POST", decisionPath, `{"input": null}`, 400, types.CodeInvalidParameter, ""},
		"no version":      {"it would be read by guessing", "POST", decisionPath, `{"input": {}}`, 400, types.CodeInvalidParameter, "version"},
		"half an input":   {"a rule that reads what lacks would never veto", "POST", decisionPath, `{"input": {"version": 1, "domain": {"name": "web-01", "uuid": "16e14a01-2b11-40de-a128-75e3f4a5fe12"}}}`, 400, types.CodeInvalidParameter, "lacks"},
		"another method":  {"", "GET", decisionPath, "", 405, types.CodeInvalidOperation, "POST"},
		"a misspelt path": {"OPA would answer {}, which reads as no veto", "POST", "/v1/data/stopguard/decison", question("web-01"), 404, types.CodeResourceNotFound, "/v1/data/stopguard/decision"},
	} {
		t.Run(name, func(t *testing.T) {
			request, err := http.NewRequest(c.method, "http://agent"+c.path, strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			response, err := a.client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			var e types.ErrorV1
			if err := json.NewDecoder(response.Body).Decode(&e); err != nil {
				t.Fatal(err)
			}
			if response.StatusCode != c.status || e.Code != c.code || !strings.Contains(e.Message, c.says) || e.Message == "" {
				t.Errorf("%d %s %q (%s)", response.StatusCode, e.Code, e.Message, c.why)
			}
		})
	}
	listed := strings.Replace(question("web-01"), `"listed": []`, `"listed": ["web-01"]`, 1)
	status, body, err := a.post(decisionPath, listed)
	if err != nil || status != 200 || !strings.Contains(body, `"outcome":"veto"`) || !strings.Contains(body, `"rule":"protected_list"`) || !strings.Contains(body, `"decision_id":"`) {
		t.Errorf("a veto: %d %s %v", status, body, err)
	}
	former := strings.NewReplacer(`"operation": "stop"`, `"operation": "tamper"`,
		`"metadata": []`, `"metadata": [{"name": "protection", "namespace": "urn:stopguard:protection:1", "attributes": {"operations": "tamper"}, "text": "", "children": []}]`,
	).Replace(question("web-02"))
	status, body, err = a.post(decisionPath, former)
	if err != nil || status != 200 || !strings.Contains(body, `"rule":"protection_mark"`) {
		t.Errorf("a client of an older version: %d %s %v", status, body, err)
	}
	if err := a.decides("web-02", "allow"); err != nil {
		t.Error(err)
	}
}

// A client of a version without holds leaves them out, and must be refused all the same.
func TestAHoldRefusesAQuestionWithoutHolds(t *testing.T) {
	h := newHost(t, "{}")
	a := h.start()
	held, err := hold.Store{Root: h.root}.Acquire(hold.Request{Domain: "16e14a01-2b11-40de-a128-75e3f4a5fe12", Reason: "nightly backup"})
	if err != nil {
		t.Fatal(err)
	}
	status, body, err := a.post(decisionPath, question("web-01"))
	if err != nil || status != 200 || !strings.Contains(body, `"outcome":"veto"`) || !strings.Contains(body, `"rule":"hold"`) {
		t.Errorf("held: %d %s %v", status, body, err)
	}
	if err := held.Release(); err != nil {
		t.Fatal(err)
	}
	if err := a.decides("web-01", "allow"); err != nil {
		t.Error(err)
	}
}

func TestAQuestionThatIsTooLongIsRefused(t *testing.T) {
	a := newHost(t, "{}").start()
	body := `{"input": "` + strings.Repeat("x", maxQuestion) + `"}`
	status, _, err := a.post(decisionPath, body)
	if err != nil || status != http.StatusRequestEntityTooLarge {
		t.Errorf("%d %v", status, err)
	}
}

func TestTheSocketIsItsOwnersAlone(t *testing.T) {
	h := newHost(t, "{}")
	a := h.start()
	info, err := os.Stat(a.socketPath())
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can become somebody else")
	}
	// Even one who gets at the socket is asked who they are.
	for dir := filepath.Dir(a.socketPath()); ; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if dir == h.root {
			break
		}
	}
	testhost.OpenToAll(t, h.root)
	if err := os.Chmod(a.socketPath(), 0o666); err != nil {
		t.Fatal(err)
	}
	out, err := asNobody(a.socketPath())
	if err != nil || !strings.Contains(out, " 403 ") || !strings.Contains(out, "uid 65534 may not ask") {
		t.Errorf("%v: %s", err, out)
	}
}

// asNobody asks for the health as another user, by a child process.
func asNobody(socket string) (string, error) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{"AGENT_TEST_ASK=" + socket}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// ask is what the child does.
func ask(socket string) {
	c, err := net.Dial("unix", socket)
	if err == nil {
		_, err = io.WriteString(c, "GET /health HTTP/1.0\r\n\r\n")
	}
	if err == nil {
		_, err = io.Copy(os.Stdout, c)
	}
	if err != nil {
		fmt.Println(err)
	}
}

func TestASecondAgentLeavesTheFirstItsSocket(t *testing.T) {
	h := newHost(t, "{}")
	a := h.start()
	_, _, err := serveSocket(a.socketPath(), http.NewServeMux())
	if err == nil || !strings.Contains(err.Error(), "another agent") {
		t.Error(err)
	}
	if _, _, err := a.get("/health"); err != nil {
		t.Error(err)
	}
}

// certificates are a server's and a client's, of one authority.
func (h host) certificates() (ca *x509.CertPool, client tls.Certificate) {
	h.t.Helper()
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		h.t.Fatal(err)
	}
	make := func(template *x509.Certificate) (cert, key []byte) {
		own := caKey
		if !template.IsCA {
			if own, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
				h.t.Fatal(err)
			}
		}
		der, err := x509.CreateCertificate(rand.Reader, template, authority, own.Public(), caKey)
		if err != nil {
			h.t.Fatal(err)
		}
		private, err := x509.MarshalPKCS8PrivateKey(own)
		if err != nil {
			h.t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	}
	root, _ := make(authority)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "leaf"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	cert, key := make(leaf)
	h.write("ca.pem", string(root))
	h.write("agent.crt", string(cert))
	h.write("agent.key", string(key))
	ca = x509.NewCertPool()
	ca.AppendCertsFromPEM(root)
	if client, err = tls.X509KeyPair(make(leaf)); err != nil {
		h.t.Fatal(err)
	}
	return ca, client
}

func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestOverTCPOnlyThoseAreAnsweredWhoShowWhoTheyAre(t *testing.T) {
	h := newHost(t, "{}")
	ca, certificate := h.certificates()
	address := freePort(t)
	const token = "0123456789abcdef0123"
	h.write("/etc/stopguard/agent.token", token+"\n")
	h.write("/etc/stopguard/agent.yaml", fmt.Sprintf("stopguard: {listen: {address: %q, certificate: %q, key: %q, client_ca: %q, token_file: /etc/stopguard/agent.token}}",
		address, h.path("agent.crt"), h.path("agent.key"), h.path("ca.pem")))
	h.start()
	get := func(path string, certificates []tls.Certificate, authorization string) (int, string) {
		t.Helper()
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca, Certificates: certificates}, DisableKeepAlives: true}}
		request, err := http.NewRequest("GET", "https://"+address+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if authorization != "" {
			request.Header.Set("Authorization", authorization)
		}
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		content, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, string(content)
	}
	if status, body := get("/health", nil, ""); status != 200 || body != "{}\n" {
		t.Errorf("a probe of /health, which shows nothing and learns nothing but the status: %d %s", status, body)
	}
	if status, body := get("/health?bundles", nil, "Bearer "+token); status != 200 || !strings.Contains(body, noBundle) {
		t.Errorf("/health with the token: %d %s", status, body)
	}
	for _, path := range []string{"/health/", "//health", "/Health", "/", decisionPath} {
		if status, body := get(path, nil, ""); status != 401 {
			t.Errorf("nobody at %s: %d %s", path, status, body)
		}
	}
	if status, _ := get("/metrics", nil, ""); status != 401 {
		t.Errorf("nobody: %d", status)
	}
	if status, _ := get("/metrics", nil, "Bearer "+token+"x"); status != 401 {
		t.Errorf("a wrong token: %d", status)
	}
	if status, _ := get("/metrics", nil, "Bearer "+token); status != 200 {
		t.Errorf("the token: %d", status)
	}
	if status, _ := get("/metrics", []tls.Certificate{certificate}, ""); status != 200 {
		t.Errorf("a certificate: %d", status)
	}
	if _, body := get("/metrics", nil, "Bearer "+token); !strings.Contains(body, `stopguard_requests_refused_total{code="401"} 7`) {
		t.Error("what was refused is not counted")
	}
	if r, err := http.Get("http://" + address + "/metrics"); err == nil && r.StatusCode == 200 {
		t.Error("it answers without TLS")
	}
}

func TestAConfigurationThatWouldWeakenTheAgentIsRefused(t *testing.T) {
	for name, c := range map[string]struct{ why, config, says string }{
		"TCP without TLS":     {"", "stopguard: {listen: {address: ':8443'}}", "TLS"},
		"TCP for everybody":   {"", "stopguard: {listen: {address: ':8443', certificate: a, key: b}}", "neither a certificate nor a token"},
		"a misspelt setting":  {"it was meant to say something", "stopguard: {sockett: /x}", "sockett"},
		"a misspelt section":  {"keyz would accept every bundle", "keyz: {a: {key: b}}", "keyz"},
		"the environment":     {"a hook does not have it", "services: {a: {url: 'http://x', credentials: {bearer: {token: '${TOKEN}'}}}}", "${TOKEN}"},
		"a bundle's excludes": {"files that nobody signed", "keys: {a: {key: x}}\nservices: {a: {url: 'http://x'}}\nbundles: {b: {service: a, signing: {exclude_files: ['*']}}}", "exclude_files"},
		"OPA's older bundle":  {"it does not go through an activator", "services: {a: {url: 'http://x'}}\nbundle: {name: b, service: a}", "bundle is not heeded"},
		"an unknown service":  {"OPA's own check", "bundles: {b: {service: a}}", `"a" not found`},
		"a mask of OPA's":     {"masks are the bundle's", "services: {a: {url: 'http://x'}}\ndecision_logs: {service: a, mask_decision: x}", "mask_decision"},
		"a relative folder":   {"it would depend on where the agent was started", "persistence_directory: opa", "absolute"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, c.config)
			_, err := newAgent(t.Context(), h.root, quiet())
			if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "; ") {
				t.Errorf("%v (%s)", err, c.why)
			}
		})
	}
}

// A question that cannot have its turn in time is told so, and those that have theirs are not late
// because of it.
func TestMoreQuestionsThanCanBeAnsweredAreTurnedAway(t *testing.T) {
	t.Parallel()
	h := newHost(t, "{}")
	k := h.open()
	api := newAPI(h.root, k, newMetrics(), newDecisionLog(noPlugin, nil))
	ask := func() int {
		w := httptest.NewRecorder()
		api.decide(w, httptest.NewRequest(http.MethodPost, decisionPath, strings.NewReader(question("web-01"))))
		return w.Code
	}
	for range cap(api.slots) {
		api.slots <- struct{}{}
	}
	if status := ask(); status != http.StatusServiceUnavailable {
		t.Errorf("without a turn: %d", status)
	}
	for range cap(api.slots) {
		<-api.slots
	}
	for range 3 * cap(api.slots) { // an answer gives its turn back
		if status := ask(); status != http.StatusOK {
			t.Errorf("with a turn: %d", status)
		}
	}
}
