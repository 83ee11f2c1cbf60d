package bundle_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"encoding/json"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/util"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/internal/testsigner"
	"github.com/stopguard/stopguard/policy"
)

// A signer is a key pair, and the algorithm that OPA signs with by it.
type signer struct {
	testsigner.Signer
	algorithm string
}

func curveSigner(t testing.TB, curve elliptic.Curve, algorithm string) signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return signer{testsigner.Of(t, key), algorithm}
}

var rsaKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

func rsaSigner(t testing.TB, algorithm string) signer {
	t.Helper()
	key, err := rsaKey()
	if err != nil {
		t.Fatal(err)
	}
	return signer{testsigner.Of(t, key), algorithm}
}

// An entry is a file of an archive, or something else of tar's.
type entry struct {
	name, content string
	header        func(*tar.Header) // nil for a regular file
}

func bundleFiles() []entry {
	return []entry{
		{name: "gpu.rego", content: "package stopguard.rules.gpu\n\nveto contains data.site.gpu.message if input.domain.name == \"web-01\"\n"},
		{name: "gpu_test.rego", content: "package stopguard.rules.gpu_test\n\ntest_nothing if true\n"},
		{name: "gpu.schema.json", content: `{"type": "object"}`},
		{name: "site/gpu/data.json", content: `{"message": "holds a GPU"}`},
		{name: "site/monitor/note.md", content: "for people\n"},
		{name: ".manifest", content: `{"revision": "r7", "roots": [""], "rego_version": 1}`},
	}
}

func pack(t testing.TB, entries ...entry) []byte {
	t.Helper()
	return zip(t, tarOf(t, entries...))
}

func tarOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: 0o600, Size: int64(len(e.content)), Typeflag: tar.TypeReg}
		if e.header != nil {
			e.header(h)
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 && h.Typeflag == tar.TypeReg {
			if _, err := io.WriteString(w, e.content); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func zip(t testing.TB, content []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// signatureOf signs entries as opa sign does, by OPA's own packages.
func signatureOf(t testing.TB, s signer, entries ...entry) entry {
	t.Helper()
	return signaturesEntry(t, tokenOf(t, s, bundle.SHA256, entries...))
}

func signaturesEntry(t testing.TB, tokens ...string) entry {
	t.Helper()
	content, err := json.Marshal(bundle.SignaturesConfig{Signatures: tokens})
	if err != nil {
		t.Fatal(err)
	}
	return entry{name: ".signatures.json", content: string(content)}
}

func tokenOf(t testing.TB, s signer, hashing bundle.HashingAlgorithm, entries ...entry) string {
	t.Helper()
	token, err := bundle.GenerateSignedToken(infosOf(t, hashing, entries...), bundle.NewSigningConfig(s.Private, s.algorithm, ""), "")
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func infosOf(t testing.TB, hashing bundle.HashingAlgorithm, entries ...entry) []bundle.FileInfo {
	t.Helper()
	hasher, err := bundle.NewSignatureHasher(hashing)
	if err != nil {
		t.Fatal(err)
	}
	var infos []bundle.FileInfo
	for _, e := range entries {
		var value any = []byte(e.content)
		if bundle.IsStructuredDoc(e.name) {
			if err := util.Unmarshal([]byte(e.content), &value); err != nil {
				t.Fatal(err)
			}
		}
		sum, err := hasher.HashFile(value)
		if err != nil {
			t.Fatal(err)
		}
		infos = append(infos, bundle.NewFile(e.name, hex.EncodeToString(sum), string(hashing)))
	}
	return infos
}

func readFiles(t testing.TB, fsys fs.FS) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := fs.WalkDir(fsys, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(fsys, name)
		files[name] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// wantFiles are the files of a Site that entries make.
func wantFiles(entries []entry) map[string]string {
	files := map[string]string{}
	for _, e := range entries {
		if !strings.HasPrefix(e.name, ".") {
			files[e.name] = e.content
		}
	}
	return files
}

func replaced(entries []entry, name, content string) []entry {
	entries = slices.Clone(entries)
	for i := range entries {
		if entries[i].name == name {
			entries[i].content = content
		}
	}
	return entries
}

// decide decides about a stop of the domain web-01.
func decide(t *testing.T, c policy.Config) policy.Decision {
	t.Helper()
	domain, err := domainxml.Parse([]byte(`<domain type="kvm"><name>web-01</name><uuid>16e14a01-2b11-40de-a128-75e3f4a5fe12</uuid></domain>`))
	if err != nil {
		t.Fatal(err)
	}
	engine, err := policy.New(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	d, err := engine.Decide(context.Background(), policy.Input{
		Operation: policy.OperationStop,
		Time:      time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC),
		Host:      policy.Host{Name: "kvm-01", Domains: []policy.HostDomain{}},
		Domain:    domain,
		State:     policy.State{Unknown: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}
