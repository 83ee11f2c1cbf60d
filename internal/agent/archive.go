package agent

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/tracing"

	"github.com/stopguard/stopguard/internal/persisted"
)

// OPA gives an activator what it made of a bundle, and not the archive: schemas of settings, texts and the exact bytes that
// were signed are gone. A generation is made of the archive, by the reader that the full hook uses, so that the two cannot
// differ. The one place that OPA has for looking at a service's answers is its tracing.

// archives keeps the archive that was downloaded last, of each URL. It is safe for concurrent use.
type archives struct {
	mu    sync.Mutex
	byURL map[string][]byte // longer than persisted.MaxArchive if it was too long
}

// last gives what was downloaded last from a URL.
func (a *archives) last(url string) ([]byte, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	content, ok := a.byURL[url]
	return content, ok
}

func (a *archives) keep(url string, content []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.byURL == nil {
		a.byURL = map[string][]byte{}
	}
	a.byURL[url] = content
}

// A keeper is OPA's tracing, of which this process uses nothing else. The options of a manager say whose archives they are.
type keeper struct{}

func init() { tracing.RegisterHTTPTracing(keeper{}) }

func (keeper) NewHandler(h http.Handler, _ string, _ tracing.Options) http.Handler { return h }

func (keeper) NewTransport(next http.RoundTripper, options tracing.Options) http.RoundTripper {
	for _, option := range options {
		if a, ok := option.(*archives); ok {
			return &keepingTransport{next, a}
		}
	}
	return next
}

type keepingTransport struct {
	next     http.RoundTripper
	archives *archives
}

func (t *keepingTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	next := t.next
	if next == nil {
		next = http.DefaultTransport
	}
	response, err := next.RoundTrip(request)
	if err == nil && response.StatusCode == http.StatusOK && isDownload(request) {
		response.Body = &keptBody{ReadCloser: response.Body, url: asked(request), archives: t.archives}
	}
	return response, err
}

// isDownload tells the requests of OPA's downloader by the header that only it sends.
func isDownload(request *http.Request) bool {
	return request.Method == http.MethodGet && strings.Contains(request.Header.Get("Prefer"), "modes=")
}

// asked is the URL before any redirections.
func asked(request *http.Request) string {
	for request.Response != nil && request.Response.Request != nil {
		request = request.Response.Request
	}
	return request.URL.String()
}

// A keptBody keeps what is read of it, and at its end what the reader left: OPA stops at the end of the tar archive, before
// the end of the file.
type keptBody struct {
	io.ReadCloser
	kept     bytes.Buffer
	url      string
	archives *archives
}

func (b *keptBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if room := persisted.MaxArchive + 1 - b.kept.Len(); room > 0 {
		b.kept.Write(p[:min(n, room)])
	}
	return n, err
}

func (b *keptBody) Close() error {
	_, err := io.Copy(io.Discard, io.LimitReader(readOnly{b}, persisted.MaxArchive))
	if err == nil {
		b.archives.keep(b.url, b.kept.Bytes())
	}
	return b.ReadCloser.Close()
}

// readOnly hides what io.Copy would use instead of Read.
type readOnly struct{ io.Reader }
