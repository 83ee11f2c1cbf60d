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

// OPA passes an activator the parsed bundle, and not the archive: schemas of settings, texts and
// the exact bytes that were signed are lost. A generation is built from the archive, by the reader
// that the full hook uses, so that the two cannot differ. OPA's tracing is the only place at which
// a service's answers can be read.

// archives holds the archive that was downloaded last from each URL. It is safe for concurrent use.
type archives struct {
	mu    sync.Mutex
	byURL map[string][]byte // longer than persisted.MaxArchive if it was too long
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
// downloads in the archives that are among a manager's options.
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
	given := withPlainNames(content)
	response.ContentLength = -1
	response.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(given), response.Body), response.Body}
	return response, nil
}

// isDownload reports whether OPA's downloader sent the request: only it sends this header.
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

// maxUnpacked bounds what withPlainNames unpacks, in bytes; a larger bundle is refused by its
// reader.
const maxUnpacked = 64 << 20

// withPlainNames returns an archive whose names have no "./" in front, as tar writes it for "tar
// -czf bundle.tar.gz .". OPA's reader compares names with those of the signature as they are, and
// would refuse such a bundle, which the hook's reader takes. It changes nothing else, and returns
// content itself if there is nothing to change or it cannot be read. What decides is read from
// content: this one is for OPA's verification alone.
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
