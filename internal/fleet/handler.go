package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/stopguard/stopguard/hookproto/remote"
)

const (
	maxRequest  = 16 << 20         // bytes
	longestTime = 10 * time.Second // bounds every request, even if its WithinMS is larger
)

// Answer answers a request for groups, or for a reservation. A request without WithinMS is limited
// by ctx and longestTime.
func (f *Fleet) Answer(ctx context.Context, r remote.FleetRequest) remote.FleetAnswer {
	limit := longestTime
	if r.WithinMS > 0 {
		limit = min(limit, time.Duration(r.WithinMS)*time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if r.Reserve != nil {
		isMade, err := f.Reserve(ctx, *r.Reserve)
		switch {
		case err != nil:
			return remote.FleetAnswer{Error: err.Error()}
		case isMade:
			return remote.FleetAnswer{Reserved: true}
		}
	} else if r.Deciding {
		// A reservation will need a lease, which is granted meanwhile.
		go func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTime)
			defer cancel()
			_, _ = f.leases.fresh(ctx) // Reserve retries after a failure
		}()
	}
	groups, err := f.View(ctx, r.Groups)
	if err != nil {
		return remote.FleetAnswer{Error: err.Error()}
	}
	return remote.FleetAnswer{Groups: groups}
}

// Handler answers requests at [remote.FleetPath]: POST with a [remote.FleetRequest], and GET with
// the fleet's status.
func (f *Fleet) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var answer any
		switch r.Method {
		case http.MethodGet:
			answer = f.Status()
		case http.MethodPost:
			request, err := readRequest(w, r)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			answer = f.Answer(r.Context(), request)
		default:
			w.Header().Set("Allow", "GET, POST")
			http.Error(w, "ask with GET or POST", http.StatusMethodNotAllowed)
			return
		}
		body, err := json.Marshal(answer)
		if err != nil {
			http.Error(w, "the answer cannot be written; report this", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body)
	})
}

// readRequest returns the request. An unknown field is an error. Otherwise the meaning of a field
// of a newer hook would be lost.
func readRequest(w http.ResponseWriter, r *http.Request) (remote.FleetRequest, error) {
	var request remote.FleetRequest
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest))
	d.DisallowUnknownFields()
	if err := d.Decode(&request); err != nil {
		return request, errors.New("the request is not understood; use hook and agent of the same version")
	}
	if _, err := d.Token(); err != io.EOF {
		return request, errors.New("something follows the request; send one")
	}
	return request, check(request)
}

func check(r remote.FleetRequest) error {
	switch {
	case len(r.Groups) == 0 || slices.Contains(r.Groups, ""):
		return errors.New("groups is empty; name one at least")
	case r.WithinMS <= 0:
		return errors.New("within_ms is missing; write how long the agent may take")
	case r.Reserve == nil:
		return nil
	case r.Reserve.ID == "" || r.Reserve.UUID == "" || len(r.Reserve.Groups) == 0:
		return errors.New("reserve has no id, uuid or groups; set them")
	}
	return nil
}
