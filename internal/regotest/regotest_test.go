package regotest

import (
	"strings"
	"testing"
)

// A test runs as root on every host of a fleet, and on an author's machine: it may call what a rule
// may call.
func TestATestMayCallWhatARuleMayCall(t *testing.T) {
	for _, tt := range []struct{ why, body, says string }{
		{"what rules call", `upper("a") == "A"`, ""},
		{"it reaches out", `http.send({"method": "get", "url": "http://127.0.0.1"})`, "http.send"},
		{"it reads the environment", `opa.runtime().env.HOME`, "opa.runtime"},
		{"it asks a name server", `net.lookup_ip_addr("localhost")`, "net.lookup_ip_addr"},
		{"it is another at each run", `rand.intn("a", 5) == 3`, "rand.intn"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			p, err := New()
			if err != nil {
				t.Fatal(err)
			}
			err = p.AddModule("x_test.rego", []byte("package x_test\n\ntest_it if "+tt.body+"\n"))
			if err == nil {
				_, err = p.Run(t.Context(), 0, false)
			}
			if (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v", err)
			}
		})
	}
}
