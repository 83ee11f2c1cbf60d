package agent

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/server/types"
	"golang.org/x/sys/unix"

	"github.com/stopguard/stopguard/internal/hostfile"
)

// The timeouts for clients. A slow client occupies a connection and nothing else.
const (
	headerTime = 5 * time.Second
	bodyTime   = 10 * time.Second
	idleTime   = 2 * time.Minute
)

type peerKey struct{}

// serveSocket makes a server on a Unix socket for root and for the user that the agent runs as.
func serveSocket(path string, h http.Handler) (*http.Server, net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, nil, fmt.Errorf("%w; create the socket's folder", err)
	}
	if err := removeStale(path); err != nil {
		return nil, nil, err
	}
	l, err := hostfile.Listen(path)
	if err != nil {
		return nil, nil, fmt.Errorf("%w; look at the socket's folder", err)
	}
	s := newServer(knownPeers(h))
	s.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, peerKey{}, peerOf(c))
	}
	return s, l, nil
}

// removeStale removes the socket of an agent that was killed. It returns an error if an agent
// answers there.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil && info.Mode()&os.ModeSocket == 0 {
		err = fmt.Errorf("%s is there and no socket; remove it, or set stopguard.socket", path)
	}
	if err != nil {
		return err
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		c.Close()
		return fmt.Errorf("another agent answers at %s; stop it first", path)
	}
	return os.Remove(path)
}

func newServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: headerTime, ReadTimeout: bodyTime, IdleTimeout: idleTime, MaxHeaderBytes: 64 << 10,
	}
}

// peerOf returns the user at the other end of a Unix socket, as the kernel recorded it when the
// connection was made; -1 if unknown.
func peerOf(c net.Conn) int {
	uid := -1
	u, ok := c.(*net.UnixConn)
	if !ok {
		return uid
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return uid
	}
	_ = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			uid = int(cred.Uid)
		}
	})
	return uid
}

// knownPeers passes the requests of root, and of the user that the agent runs as, to h. It refuses
// all others.
func knownPeers(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		uid, ok := r.Context().Value(peerKey{}).(int)
		if !ok || uid != 0 && uid != os.Geteuid() {
			writeError(w, http.StatusForbidden, types.CodeUnauthorized, fmt.Sprintf("uid %d may not ask; ask as root", uid))
			return
		}
		h.ServeHTTP(w, r)
	})
}

// serveTCP makes a server for other hosts over TLS. Clients with a certificate or the token are
// served by h, all others by health at /health. refused is called for each connection beyond the
// limits.
func serveTCP(root string, c *listen, h, health http.Handler, refused func()) (*http.Server, net.Listener, error) {
	tlsConfig, err := c.tls()
	if err != nil {
		return nil, nil, fmt.Errorf("stopguard.listen: %w", err)
	}
	var token []byte
	if c.TokenFile != "" {
		if token, err = hostfile.Root(root).Read(c.TokenFile, 4<<10); err != nil {
			return nil, nil, fmt.Errorf("stopguard.listen.token_file: %w", err)
		}
		if token = []byte(strings.TrimSpace(string(token))); len(token) < 16 {
			return nil, nil, errors.New("stopguard.listen.token_file holds no token of 16 characters at least; write a random one into it")
		}
	}
	l, err := net.Listen("tcp", c.Address)
	if err != nil {
		return nil, nil, fmt.Errorf("stopguard.listen: %w; choose another address", err)
	}
	return newServer(authenticated(token, h, health)), tls.NewListener(newConnLimit(l, refused), tlsConfig), nil
}

func (l *listen) tls() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(l.Certificate, l.Key)
	if err != nil {
		return nil, fmt.Errorf("certificate and key: %w; correct them", err)
	}
	c := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	if l.ClientCA == "" {
		return c, nil
	}
	content, err := os.ReadFile(l.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("client_ca: %w; correct it", err)
	}
	c.ClientCAs = x509.NewCertPool()
	if !c.ClientCAs.AppendCertsFromPEM(content) {
		return nil, errors.New("client_ca holds no certificate; write one in PEM into it")
	}
	c.ClientAuth = tls.VerifyClientCertIfGiven // a token suffices, and /health needs neither
	return c, nil
}

// authenticated passes requests with a verified certificate or the token to h. It answers only GET
// /health for all others, and closes their connections: other clients may need the places.
func authenticated(token []byte, h, health http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hasCertificate := r.TLS != nil && len(r.TLS.VerifiedChains) > 0
		given, isBearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		hasToken := isBearer && len(token) > 0 && subtle.ConstantTimeCompare([]byte(given), token) == 1
		if !hasCertificate && !hasToken {
			w.Header().Set("Connection", "close")
			if r.URL.Path == "/health" && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
				health.ServeHTTP(w, r)
				return
			}
			w.Header().Set("WWW-Authenticate", "Bearer")
			writeError(w, http.StatusUnauthorized, types.CodeUnauthorized, "show a client certificate or the token")
			return
		}
		h.ServeHTTP(w, r)
	})
}

// listenOn serves requests until the server is shut down.
func listenOn(s *http.Server, l net.Listener, failed chan<- error) {
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		failed <- fmt.Errorf("%s: %w", l.Addr(), err)
	}
}
