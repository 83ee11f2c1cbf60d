package stopguard

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/record"
)

// A program that stays brings what decides and what records. The host's own files are then not read
// for a decision.
func TestAHandlerMayBeGivenWhatDecidesAndWhatRecords(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "etc/stopguard/policy"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "etc/stopguard/policy/broken.rego"), []byte("package"), 0o644); err != nil {
		t.Fatal(err)
	}
	engine, err := policy.New(t.Context(), policy.Config{Sites: []policy.Site{{FS: fstest.MapFS{
		"always.rego": {Data: []byte("package stopguard.rules.always\n\nveto contains \"always\" if input.operation == \"stop\"\n")},
	}}}})
	if err != nil {
		t.Fatal(err)
	}
	var recorded []record.Event
	var failing error
	h := Handler(Config{
		Root:   root,
		Engine: func(context.Context) (*policy.Engine, error) { return engine, failing },
		Record: func(_ context.Context, e record.Event) error { recorded = append(recorded, e); return nil },
	})
	stop := func() error {
		xml := []byte("<domain type='test'><name>web-01</name><uuid>16e14a01-2b11-40de-a128-75e3f4a5fe12</uuid></domain>")
		return h(t.Context(), &hookproto.Event{Domain: "web-01", Op: hookproto.OpStop, SubOp: "begin", Extra: "-", Stdin: bytes.NewReader(xml)})
	}
	var veto *hookproto.Veto
	if err := stop(); !errors.As(err, &veto) || veto.Reason != "always" {
		t.Errorf("decided %v", err)
	}
	failing = errors.New("there is no policy; bring one")
	if err := stop(); !errors.Is(err, failing) {
		t.Errorf("what cannot decide is %v", err)
	}
	if len(recorded) != 2 || recorded[0].Result.Outcome != record.Veto || recorded[1].Result.Outcome != record.Fault {
		t.Errorf("recorded %+v", recorded)
	}
	if _, err := os.Stat(filepath.Join(root, record.File)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is recorded on the host too: %v", err)
	}
}
