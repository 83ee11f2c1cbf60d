package policy

import "github.com/open-policy-agent/opa/v1/bundle"

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
	Scope     string // what its signatures are made for
}

// ReadSignedBundle is [ReadBundle] for a bundle that is signed as OPA's configuration says. If the
// Signing names no key, the signature's own name of its key is used. Nothing else that the
// signature says of itself is used.
func ReadSignedBundle(name string, content []byte, s Signing) (Site, error) {
	if len(s.Keys) == 0 {
		return readBundle(name, content, nil)
	}
	keys := map[string]*bundle.KeyConfig{}
	for id, k := range s.Keys {
		if k.Algorithm == "" {
			k.Algorithm = "RS256"
		}
		keys[id] = &bundle.KeyConfig{Key: k.Key, Algorithm: k.Algorithm, Scope: k.Scope}
	}
	return readBundle(name, content, func() (*bundle.VerificationConfig, error) {
		return bundle.NewVerificationConfig(keys, s.ID, s.Scope, nil), nil
	})
}
