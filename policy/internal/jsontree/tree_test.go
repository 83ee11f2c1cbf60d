package jsontree

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// Whatever a document is, what is read of it is what encoding/json reads, or an error.
func FuzzTree(f *testing.F) {
	for _, seed := range []string{
		`{"a": [1, 2.50, 1e3, -0, "x", true, false, null, {}, []], "": ""}`, `{"a": 1, "a": 2}`, `{"\u0061": 1, "a": 2}`, `{"b": {"c": 1, "b": 2, "c": 3}}`,
		`{} {}`, `[`, ` [] `, `"\ud800"`, `"\ud83d\ude00\ud83d"`, `"\uD800\\ud800"`, `"\\ud"`, "\"\xff\"", "{\"\xff\": 1, \"\xfe\": 2}", "\"\x00\"", `"\u0000\n\/\b"`,
		`01`, `-`, `1.`, `nan`, `inf`, `-1e+5`, `1e999`, `"a" "b"`, "\ufeff{}", strings.Repeat("[", 301) + strings.Repeat("]", 301), `{"version": 1, "xml": {"name": "\u003cx\u003e"}}`, "7\n", `"\""`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		got, err := ParseValue(content)
		decoder := json.NewDecoder(bytes.NewReader(content))
		decoder.UseNumber()
		var want any
		wantErr := json.Unmarshal(content, new(json.RawMessage))
		if wantErr == nil {
			wantErr = decoder.Decode(&want)
		}
		switch {
		case wantErr != nil && err == nil:
			t.Fatalf("%q is read, and encoding/json says %v", content, wantErr)
		case err != nil && wantErr == nil && !strings.Contains(err.Error(), "is there twice") && !strings.Contains(err.Error(), "beyond what can be counted"):
			t.Fatalf("%q: %v", content, err)
		case err == nil && !reflect.DeepEqual(want, got):
			t.Fatalf("%q is read as\n%#v, by encoding/json\n%#v", content, got, want)
		}
	})
}
