package fleetconfig

import (
	"context"
	"crypto/tls"
	"net"
	"net/url"
)

// Connect connects to an endpoint, and closes the connection. It returns the reason if the endpoint
// cannot be used. etcd's client does not return that: it retries until its time is over.
func Connect(ctx context.Context, endpoint string, config *tls.Config) error {
	u, err := url.Parse(endpoint)
	if err != nil {
		return err
	}
	config = config.Clone()
	config.NextProtos = []string{"h2"}
	conn, err := (&tls.Dialer{NetDialer: &net.Dialer{}, Config: config}).DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return err
	}
	defer conn.Close()
	// With TLS 1.3 a server refuses the client's certificate in its first record. If it accepts the
	// certificate, that record has HTTP/2 settings.
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	if _, err := conn.Write([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 1))
	return err
}
