package bundle_test

import (
	"archive/tar"
	"bytes"
	"compress/flate"
	"context"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"

	"github.com/stopguard/stopguard/internal/testhost"
	"github.com/stopguard/stopguard/policy"
)

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
		site, err := policy.ReadBundle("b", pack(t, entries...), []byte(s.Public))
		if err != nil {
			t.Fatalf("%s: %v", prefix, err)
		}
		if diff := cmp.Diff(wantFiles(bundleFiles()), readFiles(t, site.FS)); diff != "" {
			t.Error(diff)
		}
	}
}

// A bundle that OPA's own writer makes and signs is read, and OPA accepts it too.
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
	if err := b.GenerateSignature(bundle.NewSigningConfig(s.Private, "RS256", ""), "", false); err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if err := bundle.NewWriter(&buf).DisableFormat(true).Write(b); err != nil {
		t.Fatal(err)
	}
	site, err := policy.ReadBundle("b", buf.Bytes(), []byte(s.Public))
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
	verification := bundle.NewVerificationConfig(map[string]*bundle.KeyConfig{"k": {Key: s.Public, Algorithm: "RS256"}}, "k", "", nil)
	if _, err := bundle.NewReader(&buf).WithBundleVerificationConfig(verification).Read(); err != nil {
		t.Errorf("OPA: %v", err)
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
			testhost.WantError(t, err, append(tt.want, "policy: b.tar.gz: ", "; ")...)
		})
	}
}

// A bundle may not hold files that a folder may not hold: the loader is the same.
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
		testhost.WantError(t, err, "b.tar.gz/"+path.Clean(e.name))
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
			testhost.WantError(t, err, "policy: b: cannot be unpacked: ", "; ")
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
	testhost.WantError(t, err, "larger than 64 MiB")

	var many []entry
	for i := range 10_001 {
		many = append(many, entry{name: fmt.Sprintf("%d.md", i)})
	}
	_, err = policy.ReadBundle("b", pack(t, many...), nil)
	testhost.WantError(t, err, "more than 10000 files")
	if _, err = policy.ReadBundle("b", pack(t, many[1:]...), nil); err != nil {
		t.Error(err)
	}

	// A sparse file says that it is large, and holds nothing.
	_, err = policy.ReadBundle("b", zip(t, gnuSparse(t)), nil)
	testhost.WantError(t, err, "sparse")
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
