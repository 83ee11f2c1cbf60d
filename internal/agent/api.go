package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/open-policy-agent/opa/v1/server/types"

	"github.com/stopguard/stopguard/internal/agent/bundles"
	"github.com/stopguard/stopguard/internal/hostfile"
	"github.com/stopguard/stopguard/internal/hostpath"
	"github.com/stopguard/stopguard/internal/recorded"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/hold"
	"github.com/stopguard/stopguard/policy/record"
)

// decisionPath is the only document of OPA's Data API that the agent serves.
const decisionPath = "/v1/data/" + record.Path

// maxQuestion bounds the body of a request, in bytes: a domain's XML and the fields that are read
// from it.
const maxQuestion = 32 << 20

// usualQuestion bounds the memory that is allocated for a body before it has arrived, in bytes. A
// client may send any Content-Length.
const usualQuestion = 64 << 10

// An api answers requests in the form of OPA's REST API.
type api struct {
	root    string
	flag    string // the path of hostpath.ShuttingDown
	bundles *bundles.Store
	metrics *metrics
	log     *decisionLog
	host    string

	// slots has room for as many decisions as there are processors. More decisions at once would
	// each take longer, until all of them are late. They would also leave no time to make the next
	// generation.
	slots chan struct{}
}

func newAPI(root string, bundles *bundles.Store, m *metrics, log *decisionLog) *api {
	host, err := os.Hostname()
	if err != nil {
		host = "" // as the hook records it
	}
	return &api{root, filepath.Join("/", root, hostpath.ShuttingDown), bundles, m, log, host, make(chan struct{}, runtime.GOMAXPROCS(0))}
}

// answer is the body of an answer, as OPA has it.
type answer struct {
	DecisionID string        `json:"decision_id"`
	Result     record.Result `json:"result"`
}

// decide answers POST /v1/data/stopguard/decision with {"input": the input document}.
func (a *api) decide(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	defer func() { observeSince(a.metrics.dataLatency, began) }()
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		writeError(w, http.StatusMethodNotAllowed, types.CodeInvalidOperation, "ask with POST and a body of {\"input\": ...}")
		return
	}
	var body bytes.Buffer
	body.Grow(int(min(max(r.ContentLength, 0), usualQuestion)) + bytes.MinRead) // ReadFrom needs MinRead more to find the end
	if _, err := body.ReadFrom(http.MaxBytesReader(w, r.Body, maxQuestion)); err != nil {
		status := http.StatusBadRequest
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			status = http.StatusRequestEntityTooLarge
		}
		writeError(w, status, types.CodeInvalidParameter, fmt.Sprintf("the question cannot be read: %v; ask again", err))
		return
	}
	if !a.acquire(r.Context()) {
		writeError(w, http.StatusServiceUnavailable, types.CodeInternal, "the agent has more questions than it can answer in time; ask again later")
		return
	}
	done := sync.OnceFunc(func() { <-a.slots })
	defer done()
	document, err := policy.ParseQuestion(body.Bytes())
	if err != nil {
		writeError(w, http.StatusBadRequest, types.CodeInvalidParameter, err.Error())
		return
	}
	name, uuid := document.Domain()
	event := record.New(a.host, record.Domain{Name: name, UUID: uuid}, began)
	decision, err := a.ask(r.Context(), document)
	done() // the client may be slow to read
	var lack *policy.MissingInputError
	if errors.As(err, &lack) {
		writeError(w, http.StatusBadRequest, types.CodeInvalidParameter, err.Error())
		return
	}
	recorded.Decision(&event, decision)
	if err != nil {
		event.Result.Detail = err.Error()
	}
	a.metrics.decided(event.Result)
	if a.log.plugin() != nil {
		event.Metrics = map[string]int64{"timer_stopguard_decide_ns": time.Since(began).Nanoseconds()}
		a.log.add(event)
	}
	if err != nil {
		writeError(w, http.StatusInternalServerError, types.CodeEvaluation, err.Error())
		return
	}
	write(w, http.StatusOK, answer{event.DecisionID, event.Result})
}

// slotTimeout bounds the wait for a slot. A decision may take as long.
const slotTimeout = 2 * time.Second

// acquire waits for a slot. It reports false if none is free in time.
func (a *api) acquire(ctx context.Context) bool {
	select {
	case a.slots <- struct{}{}:
		return true
	default: // most requests do not wait, and need no timer
	}
	ctx, cancel := context.WithTimeout(ctx, slotTimeout)
	defer cancel()
	select {
	case a.slots <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (a *api) ask(ctx context.Context, document *policy.Document) (policy.Decision, error) {
	g := a.bundles.Current()
	if g.Err != nil {
		return policy.Decision{}, g.Err
	}
	// The flag is rarely there. Lstat costs a tenth of reading a missing file.
	if _, err := os.Lstat(a.flag); err == nil {
		_, err = hostfile.Root(a.root).Read(hostpath.ShuttingDown, 1<<10)
		document.ShuttingDown = err == nil
	}
	if _, uuid := document.Domain(); g.Engine.Reads(policy.PathHolds) {
		var err error
		if document.Holds, err = (hold.Store{Root: a.root}).Of(uuid, time.Now()); err != nil {
			return policy.Decision{}, err
		}
	}
	return g.Engine.DecideDocument(ctx, document)
}

// missing answers requests for all other documents. OPA answers {} for an undefined document.
// Otherwise a misspelt path would look like an answer.
func missing(w http.ResponseWriter, r *http.Request) {
	writeError(w, http.StatusNotFound, types.CodeResourceNotFound,
		fmt.Sprintf("there is no %q; ask POST %s", strings.ToValidUTF8(r.URL.Path, "?"), decisionPath))
}

func writeError(w http.ResponseWriter, status int, code, message string) {
	write(w, status, &types.ErrorV1{Code: code, Message: message})
}

func write(w http.ResponseWriter, status int, body any) {
	content, err := json.Marshal(body)
	if err != nil {
		status, content = http.StatusInternalServerError, []byte(`{"code":"internal_error","message":"the answer cannot be written; report this"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(content, '\n'))
}
