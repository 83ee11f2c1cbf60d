package record

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestTheLastQuestionIsFoundInWhateverIsInTheFile(t *testing.T) {
	const uuid, other = "16e14a01-2b11-40de-a128-75e3f4a5fe12", "26e14a01-2b11-40de-a128-75e3f4a5fe12"
	line := func(uuid, outcome, id string) string {
		e := New("kvm-07", Domain{Name: "a", UUID: uuid}, noon)
		e.Result.Outcome, e.DecisionID = outcome, id
		text, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		return string(text) + "\n"
	}
	for _, tt := range []struct{ why, file, want string }{
		{"nothing is there", "", ""},
		{"the only one", line(uuid, Veto, "1"), "1"},
		{"the last of two", line(uuid, Veto, "1") + line(uuid, Allow, "2"), "2"},
		{"others are another's", line(uuid, Veto, "1") + line(other, Allow, "2"), "1"},
		{"what only mentions it", line(uuid, Veto, "1") + strings.Replace(line(other, Allow, "2"), `"kvm-07"`, `"`+uuid+`"`, 1), "1"},
		{"an end is no question", line(uuid, Fault, "1") + line(uuid, Escape, "2") + line(uuid, Moot, "3"), "1"},
		{"torn lines", line(uuid, Veto, "1")[:30] + "\n" + line(uuid, Veto, "2") + "\n\n" + line(uuid, Veto, "3")[:50], "2"},
		{"too far back", line(uuid, Veto, "1") + strings.Repeat(line(other, Veto, "2"), lookBack/len(line(other, Veto, "2"))+1), ""},
		{"a line longer than is looked at", strings.Repeat("x", 2*lookBack) + uuid, ""},
	} {
		root := t.TempDir()
		if tt.file != "" {
			path := filepath.Join(root, File)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(tt.file), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		e, ok := Recorder{Root: root}.Last(uuid)
		if e.DecisionID != tt.want || ok != (tt.want != "") {
			t.Errorf("%s: %q, %v; want %q", tt.why, e.DecisionID, ok, tt.want)
		}
	}
	if e, ok := (Recorder{Root: t.TempDir()}).Last(""); ok {
		t.Errorf("a domain without a UUID has %+v", e)
	}
}

func TestARequestIsSaidInOneLine(t *testing.T) {
	for want, r := range map[string]Request{
		"stop by alice (DOMAIN_DESTROY)": {Operation: "stop", Procedure: "DOMAIN_DESTROY", UID: 1000, User: "alice"},
		"reset by uid 0":                 {Operation: "reset"},
		"pause":                          {Operation: "pause", UID: -1},
		"stop by a client of virtproxyd": {Operation: "stop", UID: -1, Via: "virtproxyd"},
	} {
		if got := r.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	e := New("kvm-07", Domain{Name: "a"}, time.Time{})
	e.Result.Outcome, e.Result.Request = Veto, &Request{Operation: "pause", UID: -1}
	if got, want := e.text(), "veto: a: pause"; got != want {
		t.Errorf("the journal has %q, want %q", got, want)
	}
}

func TestANameCannotPassForWhatStandsBehindIt(t *testing.T) {
	for name, want := range map[string]string{
		"pg-primary-01":             "pg-primary-01",
		"Müller 2.0":                "Müller 2.0",
		"":                          "",
		"pg: stop by alice":         `"pg: stop by alice"`,
		`a" (rule x)`:               `"a\" (rule x)"`,
		"x\u009b31m":                `"x\u009b31m"`,
		"web\u202e(YORTSED_NIAMOD)": `"web\u202e(YORTSED_NIAMOD)"`,
	} {
		if got := (Domain{Name: name}).String(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
