package remote

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// Only a well-formed answer is accepted, whatever bytes come over the socket.
func FuzzReceive(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 19\r\n\r\n{\"outcome\":\"allow\"}"))
	f.Add([]byte("HTTP/1.1 200 \nContent-Length: 33\n\n{\"outcome\":\"veto\",\"reason\":\"eA==\"}"))
	f.Add([]byte("HTTP/1.1 404 Not Found\r\n\r\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		a, err := receive(bytes.NewReader(content))
		if err != nil {
			return
		}
		if !strings.HasPrefix(string(content), "HTTP/1.1 200 ") || !a.valid() {
			t.Fatalf("%q gave %+v", content, a)
		}
		if allowed := a.Err() == nil; allowed != (a.Outcome == allow) || allowed && !bytes.Contains(content, []byte("llow")) {
			t.Fatalf("%q gave %+v", content, a)
		}
		again, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := parseAnswer(again); err != nil || b.Outcome != a.Outcome || !bytes.Equal(b.Reason, a.Reason) {
			t.Fatalf("%v, %+v", err, b)
		}
	})
}
