package agent

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/tracing"

	"github.com/stopguard/stopguard/internal/persisted"
)

// OPA passes the parsed bundle to an activator, and not the archive: schemas of settings, texts and
// the exact signed bytes are lost. A generation is built from the archive, by the reader that the
// full hook uses. Otherwise the two could differ. Only OPA's tracing sees the answers of a service.

// archives holds the last download from each URL. It is safe for concurrent use.
type archives struct {
	mu    sync.Mutex
	byURL map[string][]byte // a download that is too long is one byte longer than persisted.MaxArchive
}

// load returns the last download from a URL.
func (a *archives) load(url string) ([]byte, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	content, ok := a.byURL[url]
	return content, ok
}

func (a *archives) store(url string, content []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.byURL == nil {
		a.byURL = map[string][]byte{}
	}
	a.byURL[url] = content
}

// An archiver is registered as OPA's tracing, which this process does not use otherwise. It stores
// downloads in the archives that are part of a manager's options.
type archiver struct{}

func init() { tracing.RegisterHTTPTracing(archiver{}) }

func (archiver) NewHandler(h http.Handler, _ string, _ tracing.Options) http.Handler { return h }

func (archiver) NewTransport(next http.RoundTripper, options tracing.Options) http.RoundTripper {
	for _, option := range options {
		if a, ok := option.(*archives); ok {
			return &archivingTransport{next, a}
		}
	}
	return next
}

type archivingTransport struct {
	next     http.RoundTripper
	archives *archives
}

func (t *archivingTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	next := t.next
	if next == nil {
		next = http.DefaultTransport
	}
	response, err := next.RoundTrip(request)
	if err != nil || response.StatusCode != http.StatusOK || !isDownload(request) {
		return response, err
	}
	content, err := io.ReadAll(io.LimitReader(response.Body, persisted.MaxArchive+1))
	if err != nil {
		_ = response.Body.Close()
		return nil, err
	}
	t.archives.store(requestURL(request), content)
	plain := withPlainNames(content)
	response.ContentLength = -1
	response.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(plain), response.Body), response.Body}
	return response, nil
}

// isDownload reports whether OPA's downloader sent the request. Only the downloader sends this
// header.
func isDownload(request *http.Request) bool {
	return request.Method == http.MethodGet && strings.Contains(request.Header.Get("Prefer"), "modes=")
}

// requestURL returns the URL before any redirections.
func requestURL(request *http.Request) string {
	for request.Response != nil && request.Response.Request != nil {
		request = request.Response.Request
	}
	return request.URL.String()
}

// maxUnpacked bounds the bytes that withPlainNames unpacks. The bundle's reader refuses a larger
// one.
const maxUnpacked = 64 << 20

// withPlainNames returns an archive without "./" before its names, which "tar -czf bundle.tar.gz ."
// writes. OPA's reader compares the names with those of the signature as they are. It would refuse
// such a bundle, which the hook's reader accepts. If there is nothing to change, or content cannot
// be read, withPlainNames returns content itself. OPA uses the result for its verification only;
// decisions come from content.
func withPlainNames(content []byte) []byte {
	unzipped, err := gzip.NewReader(bytes.NewReader(content))
	if err != nil {
		return content
	}
	from := tar.NewReader(io.LimitReader(unzipped, maxUnpacked))
	var packed bytes.Buffer
	zipped, _ := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
	to := tar.NewWriter(zipped)
	changed := false
	for {
		header, err := from.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return content
		}
		if plain, ok := strings.CutPrefix(header.Name, "./"); ok {
			changed = true
			if plain == "" { // the folder itself
				continue
			}
			header.Name = plain
		}
		if err := to.WriteHeader(header); err != nil {
			return content
		}
		if _, err := io.Copy(to, from); err != nil {
			return content
		}
	}
	if !changed || to.Close() != nil || zipped.Close() != nil {
		return content
	}
	return packed.Bytes()
}
