package policy

import "github.com/open-policy-agent/opa/v1/bundle"

// A Signing says who must have signed a bundle, as OPA's configuration does. The zero Signing asks for no signature.
type Signing struct {
	// Keys are OPA's section keys, by their IDs. With any, a bundle that none of them signed is an error.
	Keys map[string]SigningKey

	// ID is the key that must have signed; "" means the one that the signature names.
	ID string

	// Scope is what the signature must have been made for; "" means the key's own.
	Scope string
}

// A SigningKey is a key of OPA's section keys.
type SigningKey struct {
	Key       string // a public key in PEM, or a secret for the algorithms HS256 to HS512
	Algorithm string // "" means RS256
	Scope     string // what its signatures are made for
}

// ReadSignedBundle is [ReadBundle] for a bundle that is signed as OPA's configuration says it. Of the signature, only the
// name of its key is heeded, and only if Signing names none.
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
