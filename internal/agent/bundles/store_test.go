package bundles

import (
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/logging"

	"github.com/stopguard/stopguard/internal/persisted"
	"github.com/stopguard/stopguard/policy"
)

// What is written twice within a tick of the file system's clock looks the same.
func TestAHostsOwnFilesAreReadForEachQuestionUntilTheyHaveSettled(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits until files have settled, for 2.5 s")
	}
	root := t.TempDir()
	s, err := Open(t.Context(), root, persisted.Config{Folder: persisted.Folder{Root: root, Path: "/agent"}}, logging.NewNoOpLogger())
	if err != nil {
		t.Fatal(err)
	}
	engine := func() *policy.Engine {
		t.Helper()
		e, err := s.Engine(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if kept := engine(); engine() == kept {
			break
		}
		if time.Now().After(end) {
			t.Fatal("each question has another engine")
		}
	}
	if !s.Current().files.Settled() {
		t.Error("an engine was kept of files that the next change could leave as they look")
	}
}
