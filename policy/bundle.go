package policy

import (
	"cmp"
	"fmt"

	"github.com/stopguard/stopguard/policy/internal/bundle"
)

// ReadBundle reads an OPA bundle, as opa sign with tar, or opa build, makes it, into a [Site] in
// memory. Errors and the Site call it name. Its Revision is the manifest's, or, where there is
// none, the SHA-256 of content in hexadecimal.
//
// With a key, a public key in PEM, only the files that its owner signed are accepted. Every file of
// the archive must be in the signature, every file of the signature in the archive, and each must
// be unchanged. For data.json, data.yaml and the manifest, a signature covers the meaning; a file
// that OPA and this package read differently is an error. The kind of the key determines the
// algorithm: RS256 for RSA, ES256, ES384 and ES512 for the curves P-256, P-384 and P-521. The
// algorithm that the signature names is ignored. A key that is empty but not nil is an error.
//
// A nil key accepts any bundle, and does not look at a signature that is in it.
//
// An archive may have 64 MiB unpacked and 10,000 files and folders. It is one gzip stream with one
// tar archive, of regular files and folders only, none of them twice. Content that would change the
// meaning of its rules or be left out (delta bundles, compiled policies, rules in Rego v0, files
// outside the manifest's roots) is an error. [New] checks the rest, as for a folder.
func ReadBundle(name string, content, key []byte) (Site, error) {
	if key == nil {
		return siteOfBundle(name, content, nil)
	}
	return siteOfBundle(name, content, bundle.ByKey(key))
}

// A Signing names the keys of which one must have signed a bundle, as OPA's configuration does. The
// zero Signing accepts bundles without a signature.
type Signing struct {
	// Keys are OPA's section keys, by their IDs. If there are any, a bundle that none of them
	// signed is an error.
	Keys map[string]SigningKey

	// ID is the ID of the key that must have signed; "" means the one that the signature names.
	ID string

	// Scope is the scope that the signature must have; "" means the key's own.
	Scope string
}

// A SigningKey is a key of OPA's section keys.
type SigningKey struct {
	Key       string // a public key in PEM, or a secret for the algorithms HS256 to HS512
	Algorithm string // "" means RS256
	Scope     string // the scope of its signatures
}

// ReadSignedBundle is [ReadBundle] for a bundle that is signed as OPA's configuration requires. If
// the Signing does not name a key, the key's ID in the signature is used. All else that the
// signature says about itself is ignored.
func ReadSignedBundle(name string, content []byte, s Signing) (Site, error) {
	if len(s.Keys) == 0 {
		return siteOfBundle(name, content, nil)
	}
	keys := map[string]bundle.SigningKey{}
	for id, key := range s.Keys {
		keys[id] = bundle.SigningKey(key)
	}
	return siteOfBundle(name, content, bundle.ByKeys(keys, s.ID, s.Scope))
}

func siteOfBundle(name string, content []byte, verify bundle.Verification) (Site, error) {
	name = cmp.Or(name, "bundle")
	files, revision, err := bundle.Read(content, verify)
	if err != nil {
		return Site{}, fmt.Errorf("policy: %s: %w", name, err)
	}
	return Site{FS: files, Name: name, Revision: revision}, nil
}
