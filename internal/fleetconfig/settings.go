// Package fleetconfig has the settings of an agent's fleet: the endpoints of etcd and the files for
// the connection. It does not link etcd's client.
package fleetconfig

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"time"
)

// Settings are the settings of a host's fleet in the agent's configuration.
type Settings struct {
	Endpoints   []string `json:"endpoints"`   // https://HOST:PORT of each etcd
	CA          string   `json:"ca"`          // PEM file of the authorities of etcd's certificates
	Certificate string   `json:"certificate"` // PEM file of the host's certificate; its common name is the user of etcd
	Key         string   `json:"key"`         // PEM file of its private key

	// Host is the host's name in the fleet; "" means its hostname.
	Host string `json:"host"`

	// LeaseSeconds is how long a host's members count after the last sign of life of its agent; 0
	// means 30.
	LeaseSeconds int `json:"lease_seconds"`

	// ReservationSeconds is the longest duration of a reservation; 0 means 300.
	ReservationSeconds int `json:"reservation_seconds"`
}

// Lease returns the duration for which a host's members count after the last sign of life of its
// agent.
func (s Settings) Lease() time.Duration { return seconds(s.LeaseSeconds, 30) }

// Reservation returns the longest duration of a reservation.
func (s Settings) Reservation() time.Duration { return seconds(s.ReservationSeconds, 300) }

func seconds(n, otherwise int) time.Duration {
	if n == 0 {
		n = otherwise
	}
	return time.Duration(n) * time.Second
}

// Check returns an error if the settings cannot be used.
func (s Settings) Check() error {
	if len(s.Endpoints) == 0 {
		return errors.New("endpoints is missing; write [https://HOST:2379, ...]")
	}
	for _, endpoint := range s.Endpoints {
		u, err := url.Parse(endpoint)
		if err != nil || u.Scheme != "https" || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.User != nil {
			return fmt.Errorf("endpoints has %.200q; write https://HOST:2379", endpoint)
		}
	}
	switch {
	case s.CA == "" || s.Certificate == "" || s.Key == "":
		return errors.New("ca, certificate or key is missing; the agent asks etcd over TLS with a client certificate only")
	case s.LeaseSeconds < 0 || s.Lease() < 5*time.Second:
		return errors.New("lease_seconds is too small; write 5 or more, or leave it out for 30")
	case s.ReservationSeconds < 0 || s.Reservation() < 2*s.Lease():
		// If an agent is down when a member ends, the member counts until its host's lease ends.
		// Otherwise the reservation could end before that.
		return fmt.Errorf("reservation_seconds is too small; write twice lease_seconds (%d) or more", int((2 * s.Lease()).Seconds()))
	}
	return nil
}

// TLS reads the files, and returns the configuration for connections to etcd.
func (s Settings) TLS() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(s.Certificate, s.Key)
	if err != nil {
		return nil, fmt.Errorf("certificate and key: %w; correct them", err)
	}
	content, err := os.ReadFile(s.CA)
	if err != nil {
		return nil, fmt.Errorf("ca: %w; correct it", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(content) {
		return nil, fmt.Errorf("ca: %s holds no certificate; write one in PEM into it", s.CA)
	}
	return &tls.Config{
		Certificates: []tls.Certificate{pair}, RootCAs: pool, MinVersion: tls.VersionTLS12,
		// The files may be replaced while the agent runs.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			newer, err := tls.LoadX509KeyPair(s.Certificate, s.Key)
			if err != nil { // for example if only one of the two is written
				return &pair, nil
			}
			return &newer, nil
		},
	}, nil
}
