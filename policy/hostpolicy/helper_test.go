package hostpolicy

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/bundle"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/policy"
)

const plainDomain = `<domain type="kvm" id="7">
  <name>web-01</name>
  <uuid>16e14a01-2b11-40de-a128-75e3f4a5fe12</uuid>
  <os><type arch="x86_64" machine="q35">hvm</type></os>
</domain>`

func newEngine(t testing.TB, c policy.Config) *policy.Engine {
	t.Helper()
	e, err := policy.New(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// vetoes reports whether a stop of the domain is vetoed.
func vetoes(t *testing.T, e *policy.Engine, name string) bool {
	t.Helper()
	domain, err := domainxml.Parse([]byte(strings.Replace(plainDomain, "web-01", name, 1)))
	if err != nil {
		t.Fatal(err)
	}
	in := policy.Input{Operation: policy.OperationStop, Time: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), Domain: domain}
	decision, err := e.Decide(context.Background(), in)
	if err != nil {
		t.Fatal(err)
	}
	return decision.Outcome == policy.Veto
}

// wantError fails unless err holds every part.
func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want one with %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not hold %q", err, part)
		}
	}
	if strings.ContainsAny(err.Error(), "\n\r\t") {
		t.Errorf("error %q is not one line", err)
	}
}

// A signer is a key pair in PEM on the curve P-256.
type signer struct{ private, public string }

func newSigner(t testing.TB) signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return signer{
		private: string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
		public:  string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})),
	}
}

// sign returns the content of .signatures.json for files, as opa sign writes it.
func (s signer) sign(t testing.TB, files map[string]string) string {
	t.Helper()
	hasher, err := bundle.NewSignatureHasher(bundle.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	var infos []bundle.FileInfo
	for name, content := range files {
		var value any = []byte(content)
		if bundle.IsStructuredDoc(name) {
			if err := json.Unmarshal([]byte(content), &value); err != nil {
				t.Fatal(err)
			}
		}
		sum, err := hasher.HashFile(value)
		if err != nil {
			t.Fatal(err)
		}
		infos = append(infos, bundle.NewFile(name, hex.EncodeToString(sum), string(bundle.SHA256)))
	}
	token, err := bundle.GenerateSignedToken(infos, bundle.NewSigningConfig(s.private, "ES256", ""), "")
	if err != nil {
		t.Fatal(err)
	}
	content, err := json.Marshal(bundle.SignaturesConfig{Signatures: []string{token}})
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// bundleFiles returns the files of a bundle with one rule, its setting and a manifest.
func bundleFiles() map[string]string {
	return map[string]string{
		"gpu.rego":           "package stopguard.rules.gpu\n\nveto contains data.site.gpu.message if input.domain.name == \"web-01\"\n",
		"site/gpu/data.json": `{"message": "holds a GPU"}`,
		".manifest":          `{"revision": "r7", "roots": [""], "rego_version": 1}`,
	}
}
