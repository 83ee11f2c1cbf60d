package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/plugins/logs"
)

// BenchmarkDecision is a question at the Data API without the socket: from the body to the answer.
func BenchmarkDecision(b *testing.B) {
	h := newHost(b, "{}")
	c, err := readConfiguration(h.root)
	if err != nil {
		b.Fatal(err)
	}
	k, err := open(b.Context(), h.root, c, quiet())
	if err != nil {
		b.Fatal(err)
	}
	api := newAPI(h.root, k, newMeasures(), newDecisionLog(noPlugin, nil))
	body := []byte(question("web-01"))
	b.ReportAllocs()
	for b.Loop() {
		w := httptest.NewRecorder()
		api.decide(w, httptest.NewRequest(http.MethodPost, decisionPath, bytes.NewReader(body)))
		if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "allow") {
			b.Fatal(w.Body)
		}
	}
}

func noPlugin() *logs.Plugin { return nil }
