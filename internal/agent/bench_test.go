package agent

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/plugins/logs"
)

// BenchmarkDecision is a question at the Data API without the socket: from the body to the answer.
// cpu-ns/op is the processor time of the whole process, which other programs on the machine change
// least.
func BenchmarkDecision(b *testing.B) {
	h := newHost(b, "{}")
	k := h.open()
	api := newAPI(h.root, k, newMetrics(), newDecisionLog(noPlugin, nil))
	mark := `"metadata": [{"name": "protection", "namespace": "urn:stopguard:protection:1", "attributes": {"reason": "billing primary", "until": "2099-06-30"}, "text": "", "children": []}]`
	for _, bench := range []struct{ outcome, question string }{
		{"allow", question("web-01")},
		{"veto", strings.Replace(question("web-01"), `"metadata": []`, mark, 1)},
	} {
		b.Run(bench.outcome, func(b *testing.B) {
			body := []byte(bench.question)
			b.ReportAllocs()
			spent := processorTime()
			for b.Loop() {
				w := httptest.NewRecorder()
				api.decide(w, httptest.NewRequest(http.MethodPost, decisionPath, bytes.NewReader(body)))
				if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), bench.outcome) {
					b.Fatal(w.Body)
				}
			}
			b.ReportMetric(float64((processorTime()-spent).Nanoseconds())/float64(b.N), "cpu-ns/op")
		})
	}
}

// processorTime is what this process has used.
func processorTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func noPlugin() *logs.Plugin { return nil }
