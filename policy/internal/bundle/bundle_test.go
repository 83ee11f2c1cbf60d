package bundle_test

import (
	"archive/tar"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/util"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/policy"
)

// A signer is a key pair in PEM, and the algorithm that OPA signs with by it.
type signer struct{ private, public, algorithm string }

func newSigner(t testing.TB, key crypto.Signer, algorithm string) signer {
	t.Helper()
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return signer{
		private:   string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
		public:    string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})),
		algorithm: algorithm,
	}
}

func curveSigner(t testing.TB, curve elliptic.Curve, algorithm string) signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return newSigner(t, key, algorithm)
}

var rsaKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

func rsaSigner(t testing.TB, algorithm string) signer {
	t.Helper()
	key, err := rsaKey()
	if err != nil {
		t.Fatal(err)
	}
	return newSigner(t, key, algorithm)
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
	token, err := bundle.GenerateSignedToken(infosOf(t, hashing, entries...), bundle.NewSigningConfig(s.private, s.algorithm, ""), "")
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

func TestABundleIsASiteLikeItsFolder(t *testing.T) {
	archive := pack(t, bundleFiles()...)
	site, err := policy.ReadBundle("b.tar.gz", archive, nil)
	if err != nil {
		t.Fatal(err)
	}
	if site.Name != "b.tar.gz" || site.Revision != "r7" {
		t.Errorf("name %q, revision %q", site.Name, site.Revision)
	}
	if diff := cmp.Diff(wantFiles(bundleFiles()), readFiles(t, site.FS)); diff != "" {
		t.Error(diff)
	}
	if err := fstest.TestFS(site.FS, "gpu.rego", "site/gpu/data.json"); err != nil {
		t.Error(err)
	}
	d := decide(t, policy.Config{Sites: []policy.Site{site}})
	if diff := cmp.Diff([]policy.Reason{{Rule: "gpu", Message: "holds a GPU"}}, d.Reasons); diff != "" {
		t.Error(diff)
	}
	if d.Revision != "r7" {
		t.Errorf("the decision's revision is %q", d.Revision)
	}
}

func TestABundleWithoutARevisionIsNamedByItsHash(t *testing.T) {
	archive := pack(t, bundleFiles()[:1]...)
	site, err := policy.ReadBundle("", archive, nil)
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(archive); site.Revision != hex.EncodeToString(sum[:]) || site.Name != "bundle" {
		t.Errorf("name %q, revision %q", site.Name, site.Revision)
	}
}

func TestEveryKindOfKeyVerifiesWhatItSigned(t *testing.T) {
	signers := map[string]signer{
		"RSA":   rsaSigner(t, "RS256"),
		"P-256": curveSigner(t, elliptic.P256(), "ES256"),
		"P-384": curveSigner(t, elliptic.P384(), "ES384"),
		"P-521": curveSigner(t, elliptic.P521(), "ES512"),
	}
	for name, s := range signers {
		t.Run(name, func(t *testing.T) {
			archive := pack(t, append(bundleFiles(), signatureOf(t, s, bundleFiles()...))...)
			site, err := policy.ReadBundle("b", archive, []byte(s.public))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(wantFiles(bundleFiles()), readFiles(t, site.FS)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The way tar writes names from within a folder is not that of OPA's writer.
func TestNamesMayBeginAsTarOrOPAWritesThem(t *testing.T) {
	s := curveSigner(t, elliptic.P256(), "ES256")
	signature := signatureOf(t, s, bundleFiles()...)
	for _, prefix := range []string{"/", "./"} {
		entries := []entry{{name: "./", header: func(h *tar.Header) { h.Typeflag = tar.TypeDir }}}
		for _, e := range append(bundleFiles(), signature) {
			e.name = prefix + e.name
			entries = append(entries, e)
		}
		site, err := policy.ReadBundle("b", pack(t, entries...), []byte(s.public))
		if err != nil {
			t.Fatalf("%s: %v", prefix, err)
		}
		if diff := cmp.Diff(wantFiles(bundleFiles()), readFiles(t, site.FS)); diff != "" {
			t.Error(diff)
		}
	}
}

// What OPA's own writer makes and signs is read, and OPA itself accepts it too.
func TestABundleOfOPAsWriterIsRead(t *testing.T) {
	s := rsaSigner(t, "RS256")
	raw := []byte(bundleFiles()[0].content)
	b := bundle.Bundle{
		Manifest: bundle.Manifest{Revision: "r8"},
		Data:     map[string]any{"site": map[string]any{"gpu": map[string]any{"message": "holds a GPU"}}},
		Modules: []bundle.ModuleFile{{
			URL: "/policy/gpu.rego", Path: "/policy/gpu.rego", RelativePath: "/policy/gpu.rego",
			Raw: raw, Parsed: ast.MustParseModule(string(raw)),
		}},
	}
	b.Manifest.Init()
	b.SetRegoVersion(ast.RegoV1)
	if err := b.GenerateSignature(bundle.NewSigningConfig(s.private, "RS256", ""), "", false); err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if err := bundle.NewWriter(&buf).DisableFormat(true).Write(b); err != nil {
		t.Fatal(err)
	}
	site, err := policy.ReadBundle("b", buf.Bytes(), []byte(s.public))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"data.json":       `{"site":{"gpu":{"message":"holds a GPU"}}}` + "\n",
		"policy/gpu.rego": string(raw),
	}
	if diff := cmp.Diff(want, readFiles(t, site.FS)); diff != "" || site.Revision != "r8" {
		t.Error(site.Revision, diff)
	}
	decide(t, policy.Config{Sites: []policy.Site{site}})
	verification := bundle.NewVerificationConfig(map[string]*bundle.KeyConfig{"k": {Key: s.public, Algorithm: "RS256"}}, "k", "", nil)
	if _, err := bundle.NewReader(&buf).WithBundleVerificationConfig(verification).Read(); err != nil {
		t.Errorf("OPA: %v", err)
	}
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

func TestWithAKeyNothingElseThanWhatWasSignedIsAccepted(t *testing.T) {
	s, other := rsaSigner(t, "RS256"), curveSigner(t, elliptic.P256(), "ES256")
	files := bundleFiles()
	signature := signatureOf(t, s, files...)
	forge := func(header string, sign func(string) []byte) entry {
		payload, err := json.Marshal(map[string]any{"files": infosOf(t, bundle.SHA256, files...)})
		if err != nil {
			t.Fatal(err)
		}
		text := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString(payload)
		return signaturesEntry(t, text+"."+base64.RawURLEncoding.EncodeToString(sign(text)))
	}
	hmacWith := func(secret string) func(string) []byte {
		return func(text string) []byte {
			mac := hmac.New(sha256.New, []byte(secret))
			mac.Write([]byte(text))
			return mac.Sum(nil)
		}
	}
	none := func(string) []byte { return nil }
	block, _ := pem.Decode([]byte(s.public))
	yaml := entry{name: "data.yaml", content: "site:\n  gpu:\n    d: &a x\n    e: *a\n"}
	key := entry{name: "data.yaml", content: "site:\n  gpu:\n    true: x\n"}

	tests := []struct {
		name, why string
		entries   []entry
		want      []string
	}{
		{"unsigned", "the signature was left out, or taken out", files,
			[]string{"is not signed", "opa sign"}},
		{"signed by another key", "anybody has a key", append(files, signatureOf(t, other, files...)),
			[]string{"not of this key"}},
		{"signed by another RSA key's algorithm", "the key's kind says RS256", append(files, signatureOf(t, rsaSigner(t, "PS256"), files...)),
			[]string{"not of this key"}},
		{"an altered rule", "", append(replaced(files, "gpu.rego", strings.Replace(files[0].content, "web-01", "web-02", 1)), signature),
			[]string{`"gpu.rego" is not as it was signed`}},
		{"an altered setting", "", append(replaced(files, "site/gpu/data.json", `{"message": "x"}`), signature),
			[]string{`"site/gpu/data.json" is not as it was signed`}},
		{"an altered schema", "it would let other settings pass", append(replaced(files, "gpu.schema.json", `{}`), signature),
			[]string{`"gpu.schema.json" is not as it was signed`}},
		{"an altered manifest", "the revision is what records show", append(replaced(files, ".manifest", `{"revision": "r8", "roots": [""], "rego_version": 1}`), signature),
			[]string{`".manifest" is not as it was signed`}},
		{"a setting twice", "OPA signs the last, another reader takes the first", append(replaced(files, "site/gpu/data.json", `{"message": "x", "message": "holds a GPU"}`), signature),
			[]string{"site/gpu/data.json", "twice"}},
		{"a revision twice", "likewise", append(replaced(files, ".manifest", `{"revision": "x", "revision": "r7", "roots": [""], "rego_version": 1}`), signature),
			[]string{".manifest", "twice"}},
		{"a data.json in YAML", "OPA reads it, for it tries both", append(replaced(files, "site/gpu/data.json", `message: holds a GPU`), signature),
			[]string{"site/gpu/data.json"}},
		{"YAML that only OPA reads", "it would be signed as another value", []entry{yaml, signatureOf(t, s, yaml)},
			[]string{"data.yaml", "anchors"}},
		{"YAML that OPA reads otherwise", "to OPA true and True are one key", []entry{{name: "data.yaml", content: strings.Replace(key.content, "true", "True", 1)}, signatureOf(t, s, key)},
			[]string{"data.yaml", "other values"}},
		{"a file too much", "it would be a rule that nobody signed", append(files, signature, entry{name: "x.rego", content: "package x"}),
			[]string{`"x.rego" was not signed`}},
		{"a hidden file too much", "likewise, if some day it is read", append(files, signature, entry{name: ".x", content: "x"}),
			[]string{`".x" was not signed`}},
		{"a file too few", "a rule would be missing", append(files[1:], signature),
			[]string{`"gpu.rego" was signed and is missing`}},
		{"a renamed file", "", append([]entry{{name: "gpv.rego", content: files[0].content}}, append(files[1:], signature)...),
			[]string{`"gpu.rego" was signed and is missing`}},
		{"a file twice, the right one first", "a verifier may look at the first and a reader take the last", append(files, signature, entry{name: "gpu.rego", content: "package stopguard.rules.gpu\n"}),
			[]string{`"gpu.rego" twice`}},
		{"a file twice, under two spellings", "likewise", append(files, signature, entry{name: "./gpu.rego", content: "package stopguard.rules.gpu\n"}),
			[]string{`"gpu.rego" twice`}},
		{"two signature files", "one of them might be of another key", append(files, signature, signature),
			[]string{`".signatures.json" twice`}},
		{"a signature file in a folder", "OPA takes it for the bundle's", append(files, entry{name: "a/.signatures.json", content: signature.content}),
			[]string{"is not signed"}},
		{"two tokens", "which of them counts", append(files, signaturesEntry(t, tokenOf(t, s, bundle.SHA256, files...), tokenOf(t, s, bundle.SHA256, files...))),
			[]string{"multiple"}},
		{"no token", "", append(files, signaturesEntry(t)),
			[]string{"missing JWT"}},
		{"no JSON", "", append(files, entry{name: ".signatures.json", content: "{"}),
			[]string{".signatures.json", "sign the bundle anew"}},
		{"a plugin", "the bundle itself would say who judges it", append(files, entry{name: ".signatures.json", content: strings.Replace(signature.content, "{", `{"plugin": "mine", `, 1)}),
			[]string{"plugin"}},
		{"a token of HS256, by the public key in PEM", "the public key is known to everybody", append(files, forge(`{"alg":"HS256"}`, hmacWith(s.public))),
			[]string{"not of this key"}},
		{"the same without the last line feed", "", append(files, forge(`{"alg":"HS256"}`, hmacWith(strings.TrimSpace(s.public)))),
			[]string{"not of this key"}},
		{"the same by the key in DER", "", append(files, forge(`{"alg":"HS256"}`, hmacWith(string(block.Bytes)))),
			[]string{"not of this key"}},
		{"the same, with a key ID", "", append(files, forge(`{"alg":"HS256","kid":"key"}`, hmacWith(s.public))),
			[]string{"not of this key"}},
		{"a token of alg none", "", append(files, forge(`{"alg":"none"}`, none)),
			[]string{"not of this key"}},
		{"a token of alg none that claims RS256", "", append(files, forge(`{"alg":"RS256"}`, none)),
			[]string{"not of this key"}},
		{"a hash that can be forged", "two files with one MD5 are easily made", append(files, signaturesEntry(t, tokenOf(t, s, bundle.MD5, files...))),
			[]string{"MD5"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			site, err := policy.ReadBundle("b.tar.gz", pack(t, tt.entries...), []byte(s.public))
			wantError(t, err, append(tt.want, "policy: b.tar.gz: ", "; ")...)
			if !reflect.DeepEqual(site, policy.Site{}) {
				t.Errorf("an error comes with %+v", site)
			}
		})
	}
	t.Run("nothing of it is changed", func(t *testing.T) { // or the rows above prove nothing
		if _, err := policy.ReadBundle("b", pack(t, append(files, signature)...), []byte(s.public)); err != nil {
			t.Error(err)
		}
	})
}

func TestAKeyThatIsNoPublicKeyIsAnError(t *testing.T) {
	s := curveSigner(t, elliptic.P256(), "ES256")
	archive := pack(t, append(bundleFiles(), signatureOf(t, s, bundleFiles()...))...)
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, why, key, want string }{
		{"empty", "a file that could not be written is no permission", "", "not in PEM"},
		{"a secret", "HMAC keys sign as well as they verify", "secret", "not in PEM"},
		{"a private key", "it does not belong on a host", s.private, "is a private key"},
		{"two keys", "which of them counts", s.public + s.public, "followed by something else"},
		{"text before it", "it might be another key, misspelt", "x\n" + s.public, "not in PEM"},
		{"half a key", "", s.public[:len(s.public)-30], "not in PEM"},
		{"another kind", "OPA does not sign by it", newSigner(t, edKey, "").public, "does not sign bundles with"},
		{"a curve without an algorithm", "likewise", curveSigner(t, elliptic.P224(), "").public, "does not sign bundles with"},
		{"not what it says", "", string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")})), "cannot be read"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := policy.ReadBundle("b", archive, []byte(tt.key))
			wantError(t, err, "policy: b: its key ", tt.want, "; ")
		})
	}
}

func TestWhatWouldChangeTheMeaningOfABundleIsRefused(t *testing.T) {
	manifest := func(content string) []entry { return replaced(bundleFiles(), ".manifest", content) }
	with := func(name, content string) []entry {
		return append(bundleFiles(), entry{name: name, content: content})
	}
	odd := func(name string, change func(*tar.Header)) []entry {
		return append(bundleFiles(), entry{name: name, header: change})
	}
	typed := func(flag byte) func(*tar.Header) {
		return func(h *tar.Header) { h.Typeflag, h.Linkname, h.Size = flag, "gpu.rego", 0 }
	}
	tests := []struct {
		name, why string
		entries   []entry
		want      []string
	}{
		{"a delta bundle", "it changes another", []entry{{name: "patch.json", content: `{"data": []}`}}, []string{"delta bundle", "build a whole one"}},
		{"a compiled policy", "OPA would run it instead of the rules", with("policy.wasm", "x"), []string{"policy.wasm", "target rego"}},
		{"a plan", "likewise", with("plan.json", "{}"), []string{"plan.json", "target rego"}},
		{"a plan in protobuf", "likewise", with("plan.pb", "x"), []string{"plan.pb", "target rego"}},
		{"a manifest in protobuf", "its name begins with a dot, and it would be passed over", with(".manifest.pb", "x"), []string{".manifest.pb", "as JSON"}},
		{"a manifest in a folder", "likewise", with("a/.manifest", "{}"), []string{"a/.manifest", "folder"}},
		{"a manifest with compiled rules", "", manifest(`{"wasm": [{"entrypoint": "x", "module": "/p.wasm"}]}`), []string{"wasm"}},
		{"rules in Rego v0", "they mean something else", manifest(`{"rego_version": 0}`), []string{"rego_version is 0", "Rego v1"}},
		{"one rule in Rego v0", "likewise", manifest(`{"rego_version": 1, "file_rego_versions": {"/gpu.rego": 0}}`), []string{"/gpu.rego", "Rego v1"}},
		{"versions that are none", "", manifest(`{"file_rego_versions": []}`), []string{"file_rego_versions may not be"}},
		{"roots without a rule", "OPA would refuse it", manifest(`{"roots": ["site"]}`), []string{"gpu.rego", "outside the roots"}},
		{"roots without a setting", "likewise", manifest(`{"roots": ["stopguard"]}`), []string{"site/gpu/data.json", "outside the roots"}},
		{"no roots", "likewise", manifest(`{"roots": []}`), []string{"outside the roots"}},
		{"roots that are none", "", manifest(`{"roots": [1]}`), []string{"roots may not be"}},
		{"an unknown key", "who knows what it was to do", manifest(`{"Revision": "x"}`), []string{`"Revision" is unknown`}},
		{"a revision that is none", "", manifest(`{"revision": 1}`), []string{"revision may not be"}},
		{"a revision of two lines", "it would be shown", manifest(`{"revision": "a\nb"}`), []string{"no short line"}},
		{"a manifest that is no JSON", "", manifest(`revision: x`), []string{".manifest is no JSON"}},
		{"a manifest that is no object", "", manifest(`[]`), []string{"not an object"}},
		{"a manifest that is nested without end", "a parser could run out of stack", manifest(strings.Repeat("[", 1<<20)), []string{"no JSON"}},
		{"a path that climbs out", "", with("../x.rego", "x"), []string{`"../x.rego"`, "no plain path"}},
		{"a path that climbs out behind a slash", "", with("/../x.rego", "x"), []string{"no plain path"}},
		{"a path that climbs and returns", "it is another name of a file", with("a/../gpu.rego", "x"), []string{"no plain path"}},
		{"a path with two slashes", "", with("//gpu.rego", "x"), []string{"no plain path"}},
		{"a path with dots inside", "", with("a/./gpu.rego", "x"), []string{"no plain path"}},
		{"a path with a backslash", "a separator elsewhere", with(`a\gpu.rego`, "x"), []string{"no plain path"}},
		{"a name with a line feed", "it would break an error in two", with("a\nb.rego", "x"), []string{"no plain path"}},
		{"a name that is not UTF-8", "", with("a\xff.rego", "x"), []string{"no plain path"}},
		{"a file named like the folder", "", with(".", "x"), []string{"no plain path"}},
		{"a file twice", "tar takes the last", with("gpu.rego", "x"), []string{`"gpu.rego" twice`}},
		{"a file and a folder of one name", "", with("gpu.rego/x.rego", "x"), []string{`"gpu.rego" as a file and as a folder`}},
		{"a symlink", "it leads out", odd("x.rego", typed(tar.TypeSymlink)), []string{"neither a file nor a folder"}},
		{"a hard link", "a second name of a file", odd("x.rego", typed(tar.TypeLink)), []string{"neither a file nor a folder"}},
		{"a device", "", odd("x.rego", typed(tar.TypeChar)), []string{"neither a file nor a folder"}},
		{"a pipe", "", odd("x.rego", typed(tar.TypeFifo)), []string{"neither a file nor a folder"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := policy.ReadBundle("b.tar.gz", pack(t, tt.entries...), nil)
			wantError(t, err, append(tt.want, "policy: b.tar.gz: ", "; ")...)
		})
	}
}

// What a folder may not hold, a bundle may not hold either: the loader is the same.
func TestWhatTheLoaderRefusesInAFolderItRefusesInABundle(t *testing.T) {
	for _, e := range []entry{
		{name: "x.rego.disabled", content: "x"},
		{name: "x.rego", content: "package stopguard.rules.x\n\nveto if true\n"},
		{name: "data.yml", content: "site: {}"},
		{name: "stopguard/data.json", content: "{}"},
	} {
		site, err := policy.ReadBundle("b.tar.gz", pack(t, append(bundleFiles(), e)...), nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = policy.New(context.Background(), policy.Config{Sites: []policy.Site{site}})
		wantError(t, err, "b.tar.gz/"+path.Clean(e.name))
	}
}

func TestEveryTruncationIsAnError(t *testing.T) {
	s := curveSigner(t, elliptic.P256(), "ES256")
	archive := pack(t, append(bundleFiles(), signatureOf(t, s, bundleFiles()...))...)
	for n := range archive {
		if _, err := policy.ReadBundle("b", archive[:n], nil); err == nil {
			t.Fatalf("the first %d of %d bytes are accepted", n, len(archive))
		}
	}
	plain := tarOf(t, bundleFiles()...)
	for n := 0; n < len(plain); n += 64 { // torn before it was compressed
		if _, err := policy.ReadBundle("b", zip(t, plain[:n]), nil); err == nil {
			t.Fatalf("an archive of the first %d of %d bytes is accepted", n, len(plain))
		}
	}
}

func TestNothingMayFollowTheArchive(t *testing.T) {
	plain := tarOf(t, bundleFiles()...)
	tests := []struct {
		name, why string
		archive   []byte
	}{
		{"a second gzip member", "gunzip joins them", append(zip(t, plain), zip(t, plain)...)},
		{"a second, empty gzip member", "likewise", append(zip(t, plain), zip(t, nil)...)},
		{"text", "", append(zip(t, plain), 'x')},
		{"a zero", "", append(zip(t, plain), 0)},
		{"a second archive inside", "tar -i goes on after the end", zip(t, append(slices.Clone(plain), plain...))},
		{"text inside", "", zip(t, append(slices.Clone(plain), 'x'))},
		{"no gzip at all", "", plain},
		{"nothing at all", "", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := policy.ReadBundle("b", tt.archive, nil)
			wantError(t, err, "policy: b: cannot be unpacked: ", "; ")
		})
	}
	if _, err := policy.ReadBundle("b", zip(t, append(plain, make([]byte, 10240)...)), nil); err != nil {
		t.Errorf("the zeros that GNU tar adds: %v", err)
	}
}

func TestABundleThatIsTooLargeIsRefused(t *testing.T) {
	var mebibyte bytes.Buffer
	w, err := flate.NewWriter(&mebibyte, flate.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	bomb := append([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255}, bytes.Repeat(mebibyte.Bytes(), 1<<10)...) // 1 GiB of zeros
	_, err = policy.ReadBundle("b", bomb, nil)
	wantError(t, err, "larger than 64 MiB")

	var many []entry
	for i := range 10_001 {
		many = append(many, entry{name: fmt.Sprintf("%d.md", i)})
	}
	_, err = policy.ReadBundle("b", pack(t, many...), nil)
	wantError(t, err, "more than 10000 files")
	if _, err = policy.ReadBundle("b", pack(t, many[1:]...), nil); err != nil {
		t.Error(err)
	}

	// A sparse file says that it is large, and holds nothing.
	_, err = policy.ReadBundle("b", zip(t, gnuSparse(t)), nil)
	wantError(t, err, "sparse")
}

// gnuSparse is an archive of one sparse file of 1 TiB, in PAX records as GNU tar writes them.
func gnuSparse(t testing.TB) []byte {
	t.Helper()
	records := ""
	for _, r := range []string{"GNU.sparse.major=0", "GNU.sparse.minor=1", "GNU.sparse.name=x.md", "GNU.sparse.size=1099511627776", "GNU.sparse.numblocks=0", "GNU.sparse.map="} {
		n := len(r) + 4
		if n >= 100 {
			t.Fatal(r)
		}
		records += fmt.Sprintf("%02d %s\n", n, r)
	}
	archive := tarOf(t, entry{name: "PaxHeaders.0/x", content: records}, entry{name: "x.md"})
	archive[156] = tar.TypeXHeader
	copy(archive[148:156], "        ")
	sum := 0
	for _, b := range archive[:512] {
		sum += int(b)
	}
	copy(archive[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return archive
}

// FuzzABundleIsAsItWasSigned alters a signed bundle: whatever is still accepted means what was
// signed.
func FuzzABundleIsAsItWasSigned(f *testing.F) {
	s := curveSigner(f, elliptic.P256(), "ES256")
	entries := append(bundleFiles(), signatureOf(f, s, bundleFiles()...))
	plain := tarOf(f, entries...)
	want := wantFiles(bundleFiles())
	f.Add(0, byte(1), []byte(nil), false)
	f.Add(600, byte('x'), []byte("y"), false)
	f.Add(5, byte('x'), []byte(nil), true)
	f.Fuzz(func(t *testing.T, at int, b byte, more []byte, zipped bool) {
		content := slices.Clone(plain)
		if zipped {
			content = zip(t, content)
		}
		at = int(uint(at) % uint(len(content)))
		content[at] = b
		content = slices.Insert(content, at, more...)
		if !zipped {
			content = zip(t, content)
		}
		site, err := policy.ReadBundle("b", content, []byte(s.public))
		if err != nil {
			if !strings.HasPrefix(err.Error(), "policy: b: ") || strings.ContainsAny(err.Error(), "\n\r") {
				t.Fatalf("%q", err)
			}
			return
		}
		got := readFiles(t, site.FS)
		for _, name := range slices.Sorted(maps.Keys(want)) {
			if bundle.IsStructuredDoc(name) {
				var a, b any
				if err := json.Unmarshal([]byte(want[name]), &a); err != nil {
					t.Fatal(err)
				}
				if err := json.Unmarshal([]byte(got[name]), &b); err != nil || !reflect.DeepEqual(a, b) {
					t.Fatalf("%s: %q, %v", name, got[name], err)
				}
			} else if got[name] != want[name] {
				t.Fatalf("%s: %q", name, got[name])
			}
		}
		if len(got) != len(want) || site.Revision != "r7" {
			t.Fatalf("%q, revision %s", got, site.Revision)
		}
	})
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

// wantError fails unless err is one line that holds every part.
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
