// Package serve is the agent's side of package remote: it answers hooks over HTTP. It is a package
// of its own so that the hook, which must start quickly, does not link net/http.
package serve

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/hookproto/remote"
)

// Handler answers requests at [remote.Path] with the result of h. If a request is malformed or h
// panics, the request is not answered, and the hook decides by itself.
//
// Access is limited by the socket: its mode must be 0600 and only its owner may be able to write to
// the folders above it, or hooks do not trust it. The context of h ends when the hook no longer
// waits.
func Handler(h hookproto.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e, status := event(w, r)
		if status != http.StatusOK {
			http.Error(w, http.StatusText(status), status)
			return
		}
		body, err := json.Marshal(remote.AnswerOf(h(r.Context(), e)))
		if err != nil || r.Context().Err() != nil {
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body)
	})
}

// event parses the request. It reads the whole domain XML before h is called, so that the decision
// does not wait for the hook.
func event(w http.ResponseWriter, r *http.Request) (*hookproto.Event, int) {
	if r.Method != http.MethodPost {
		return nil, http.StatusMethodNotAllowed
	}
	args := r.URL.Query()["arg"]
	if len(args) != 4 {
		return nil, http.StatusBadRequest
	}
	e := &hookproto.Event{Domain: args[0], Op: hookproto.Op(args[1]), SubOp: args[2], Extra: args[3]}
	if e.Domain == "" || strings.Contains(e.Domain, "/") || e.Op != hookproto.OpStop && e.Op != hookproto.OpRelease {
		return nil, http.StatusBadRequest
	}
	xml, err := io.ReadAll(http.MaxBytesReader(w, r.Body, hookproto.MaxXML))
	if err != nil {
		if errors.As(err, new(*http.MaxBytesError)) {
			return nil, http.StatusRequestEntityTooLarge
		}
		return nil, http.StatusBadRequest
	}
	e.Stdin = bytes.NewReader(xml)
	return e, http.StatusOK
}
