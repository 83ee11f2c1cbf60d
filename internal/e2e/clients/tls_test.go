//go:build e2e

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"time"
)

// certificates makes an authority, and one certificate for both sides, where libvirt looks for
// them.
func (h *host) certificates() {
	now := time.Now()
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	both := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"}, NotBefore: authority.NotBefore, NotAfter: authority.NotAfter,
		DNSNames: []string{"localhost"}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	authorityKey, key := h.key(), h.key()
	h.certificate("/etc/pki/CA/cacert.pem", authority, authority, authorityKey, authorityKey)
	for _, side := range []string{"server", "client"} {
		h.certificate("/etc/pki/libvirt/"+side+"cert.pem", both, authority, key, authorityKey)
		der, err := x509.MarshalECPrivateKey(key)
		if err != nil {
			h.Fatalf("%v", err)
		}
		h.File("/etc/pki/libvirt/private/"+side+"key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})), 0o600)
	}
}

func (h *host) key() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		h.Fatalf("%v", err)
	}
	return key
}

func (h *host) certificate(file string, of, by *x509.Certificate, key, signer *ecdsa.PrivateKey) {
	der, err := x509.CreateCertificate(rand.Reader, of, by, &key.PublicKey, signer)
	if err != nil {
		h.Fatalf("%v", err)
	}
	h.File(file, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), 0o644)
}
