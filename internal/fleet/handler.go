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
	longestTime = 10 * time.Second // that a request may take, whatever it asks for
)

// Answer answers a request for groups, or for a reservation. A request without WithinMS is limited
// by ctx.
func (f *Fleet) Answer(ctx context.Context, r remote.FleetRequest) remote.FleetAnswer {
	within := longestTime
	if r.WithinMS > 0 {
		within = min(within, time.Duration(r.WithinMS)*time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	if r.Reserve != nil {
		made, err := f.Reserve(ctx, *r.Reserve)
		switch {
		case err != nil:
			return remote.FleetAnswer{Error: err.Error()}
		case made:
			return remote.FleetAnswer{Reserved: true}
		}
	} else if r.Deciding {
		// A reservation needs a lease, which is had meanwhile.
		go func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTime)
			defer cancel()
			_, _ = f.leases.fresh(ctx) // if it fails, Reserve says so
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

// readRequest does not accept a field that is not known: a newer hook may mean something by it.
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
