package policy

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"

	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/util"

	"github.com/stopguard/stopguard/internal/tool/domains"
)

// A signingKey is a private key that signs bundles.
type signingKey struct {
	signer    crypto.Signer
	algorithm string // JWS algorithm
	hash      crypto.Hash
	size      int    // size of each number in the signature, in bytes; 0 for RSA
	public    []byte // in PEM
}

// readSigningKey reads a private key in PEM.
func readSigningKey(file string) (signingKey, error) {
	content, err := domains.ReadFile(file, maxKey)
	if err != nil {
		return signingKey{}, fmt.Errorf("%w; name a private key, a PEM file", err)
	}
	k, err := parseSigningKey(content)
	if err != nil {
		return signingKey{}, fmt.Errorf("%s %w; make a key with openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256", file, err)
	}
	return k, nil
}

func parseSigningKey(content []byte) (signingKey, error) {
	block, rest := pem.Decode(content)
	for block != nil && block.Type == "EC PARAMETERS" { // openssl ecparam writes them before the key
		block, rest = pem.Decode(rest)
	}
	if block == nil {
		return signingKey{}, errors.New("is not a key in PEM")
	}
	var key any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "ENCRYPTED PRIVATE KEY":
		return signingKey{}, errors.New("is encrypted, and there is nobody to ask for its passphrase")
	default:
		return signingKey{}, fmt.Errorf("holds a %s, not a private key", strings.ToLower(block.Type))
	}
	if err != nil {
		return signingKey{}, fmt.Errorf("cannot be read: %w", err)
	}
	k := signingKey{}
	switch key := key.(type) {
	case *rsa.PrivateKey:
		k = signingKey{signer: key, algorithm: "RS256", hash: crypto.SHA256}
	case *ecdsa.PrivateKey:
		switch name := key.Curve.Params().Name; name {
		case "P-256":
			k = signingKey{signer: key, algorithm: "ES256", hash: crypto.SHA256, size: 32}
		case "P-384":
			k = signingKey{signer: key, algorithm: "ES384", hash: crypto.SHA384, size: 48}
		case "P-521":
			k = signingKey{signer: key, algorithm: "ES512", hash: crypto.SHA512, size: 66}
		default:
			return signingKey{}, fmt.Errorf("is on the curve %s, with which OPA does not sign", name)
		}
	default:
		return signingKey{}, errors.New("is of a kind that OPA does not sign with")
	}
	public, err := x509.MarshalPKIXPublicKey(k.signer.Public())
	if err != nil {
		return signingKey{}, fmt.Errorf("has no public key: %w", err)
	}
	k.public = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
	return k, nil
}

// sign returns the file with the signature of a bundle, as opa sign writes it.
//
// OPA's own signer uses a random number for a signature on a curve, so that two bundles always
// differ. This one derives the number from key and content (RFC 6979).
func sign(files map[string][]byte, k signingKey) ([]byte, error) {
	infos, err := hashes(files)
	if err != nil {
		return nil, err
	}
	claims, err := json.Marshal(bundle.DecodedSignature{Files: infos})
	if err != nil {
		return nil, err
	}
	header, err := json.Marshal(map[string]string{"alg": k.algorithm})
	if err != nil {
		return nil, err
	}
	encode := base64.RawURLEncoding.EncodeToString
	text := encode(header) + "." + encode(claims)
	digest := k.hash.New()
	digest.Write([]byte(text))
	signature, err := k.signer.Sign(nil, digest.Sum(nil), k.hash)
	if err == nil && k.size > 0 {
		signature, err = fixedSize(signature, k.size)
	}
	if err != nil {
		return nil, fmt.Errorf("the bundle cannot be signed: %w; make a new key", err)
	}
	return json.Marshal(bundle.SignaturesConfig{Signatures: []string{text + "." + encode(signature)}})
}

// fixedSize returns an ECDSA signature in the form of JWS: two numbers of size bytes each.
func fixedSize(signature []byte, size int) ([]byte, error) {
	var numbers struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(signature, &numbers); err != nil || len(rest) > 0 {
		return nil, errors.New("the signature has another form than ASN.1")
	}
	fixed := make([]byte, 2*size)
	numbers.R.FillBytes(fixed[:size])
	numbers.S.FillBytes(fixed[size:])
	return fixed, nil
}

// hashOf returns a file's hash as OPA signs it.
func hashOf(hasher bundle.SignatureHasher, name string, content []byte) (bundle.FileInfo, error) {
	var value any = content
	if bundle.IsStructuredDoc(name) {
		value = nil
		if err := util.Unmarshal(content, &value); err != nil {
			return bundle.FileInfo{}, errors.New(string(bytes.Join(bytes.Fields([]byte(err.Error())), []byte(" "))))
		}
	}
	sum, err := hasher.HashFile(value)
	return bundle.NewFile(name, hex.EncodeToString(sum), string(bundle.SHA256)), err
}
