package fleet

import (
	"cmp"
	"context"
	"crypto/tls"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stopguard/stopguard/internal/fleetconfig"
	"github.com/stopguard/stopguard/internal/fleetstatus"
	"github.com/stopguard/stopguard/internal/problem"
)

// The parts of a fleet's work that fail independently.
const (
	partRead    = "reading the fleet"
	partPublish = "publishing the host's members"
	partObserve = "looking at the host's domains"
)

// A health has the current failures, and the errors of the endpoints. etcd's client does not return
// those: it retries until its time is over.
type health struct {
	log       func(format string, args ...any)
	endpoints []string
	tls       *tls.Config

	mu        sync.Mutex
	failures  map[string]string // by part
	endpoint  map[string]string // by endpoint
	isProbing bool
	probed    time.Time
}

// note sets the error of a part; nil if it works. It logs a change between the two.
func (h *health) note(part string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err == nil {
		if h.failures[part] != "" {
			h.log("fleet: %s works again", part)
		}
		delete(h.failures, part)
		if part == partRead {
			h.endpoint = nil
		}
		return
	}
	text := problem.OneLine(err.Error())
	if h.failures == nil {
		h.failures = map[string]string{}
	}
	if h.failures[part] == "" {
		h.log("fleet: %s failed: %s", part, text)
	}
	h.failures[part] = text
	if part != partObserve && !h.isProbing && time.Since(h.probed) > probePace {
		h.isProbing = true
		go h.probe()
	}
}

const (
	probePace = 2 * time.Second
	probeTime = time.Second
)

// probe connects to each endpoint to find the cause of a failure.
func (h *health) probe() {
	ctx, cancel := context.WithTimeout(context.Background(), probeTime)
	defer cancel()
	found := make([]string, len(h.endpoints))
	var all sync.WaitGroup
	for i, endpoint := range h.endpoints {
		all.Go(func() {
			if err := fleetconfig.Connect(ctx, endpoint, h.tls); err != nil {
				found[i] = problem.OneLine(err.Error())
			}
		})
	}
	all.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.isProbing, h.probed, h.endpoint = false, time.Now(), map[string]string{}
	for i, endpoint := range h.endpoints {
		if found[i] != "" {
			h.endpoint[endpoint] = found[i]
		}
	}
}

// cause returns the known errors of the endpoints, or "".
func (h *health) cause() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var causes []string
	for _, endpoint := range slices.Sorted(maps.Keys(h.endpoint)) {
		causes = append(causes, endpoint+": "+h.endpoint[endpoint])
	}
	return strings.Join(slices.CompactFunc(causes, func(a, b string) bool { return a == b }), "; ")
}

// problems returns the current failures, by part and endpoint.
func (h *health) problems() []fleetstatus.Problem {
	h.mu.Lock()
	defer h.mu.Unlock()
	problems := []fleetstatus.Problem{}
	for _, of := range []map[string]string{h.failures, h.endpoint} {
		for part, text := range of {
			problems = append(problems, fleetstatus.Problem{Part: part, Error: text})
		}
	}
	slices.SortFunc(problems, func(a, b fleetstatus.Problem) int { return cmp.Compare(a.Part, b.Part) })
	return problems
}
