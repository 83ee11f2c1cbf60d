package bundle_test

import (
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/opa/v1/bundle"

	"github.com/stopguard/stopguard/internal/testhost"
	"github.com/stopguard/stopguard/internal/testsigner"
	"github.com/stopguard/stopguard/policy"
)

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
			site, err := policy.ReadBundle("b", archive, []byte(s.Public))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(wantFiles(bundleFiles()), readFiles(t, site.FS)); diff != "" {
				t.Error(diff)
			}
		})
	}
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
	block, _ := pem.Decode([]byte(s.Public))
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
		{"a token of HS256, by the public key in PEM", "the public key is known to everybody", append(files, forge(`{"alg":"HS256"}`, hmacWith(s.Public))),
			[]string{"not of this key"}},
		{"the same without the last line feed", "", append(files, forge(`{"alg":"HS256"}`, hmacWith(strings.TrimSpace(s.Public)))),
			[]string{"not of this key"}},
		{"the same by the key in DER", "", append(files, forge(`{"alg":"HS256"}`, hmacWith(string(block.Bytes)))),
			[]string{"not of this key"}},
		{"the same, with a key ID", "", append(files, forge(`{"alg":"HS256","kid":"key"}`, hmacWith(s.Public))),
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
			site, err := policy.ReadBundle("b.tar.gz", pack(t, tt.entries...), []byte(s.Public))
			testhost.WantError(t, err, append(tt.want, "policy: b.tar.gz: ", "; ")...)
			if !reflect.DeepEqual(site, policy.Site{}) {
				t.Errorf("an error comes with %+v", site)
			}
		})
	}
	t.Run("nothing of it is changed", func(t *testing.T) { // or the rows above prove nothing
		if _, err := policy.ReadBundle("b", pack(t, append(files, signature)...), []byte(s.Public)); err != nil {
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
		{"a private key", "it does not belong on a host", s.Private, "is a private key"},
		{"two keys", "which of them counts", s.Public + s.Public, "followed by something else"},
		{"text before it", "it might be another key, misspelt", "x\n" + s.Public, "not in PEM"},
		{"half a key", "", s.Public[:len(s.Public)-30], "not in PEM"},
		{"another kind", "OPA does not sign by it", testsigner.Of(t, edKey).Public, "does not sign bundles with"},
		{"a curve without an algorithm", "likewise", curveSigner(t, elliptic.P224(), "").Public, "does not sign bundles with"},
		{"not what it says", "", string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")})), "cannot be read"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := policy.ReadBundle("b", archive, []byte(tt.key))
			testhost.WantError(t, err, "policy: b: its key ", tt.want, "; ")
		})
	}
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
		site, err := policy.ReadBundle("b", content, []byte(s.Public))
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
