package hooktest_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/hookproto/hooktest"
)

// These are the tests of a hook binary of your own and of its handler.
func Example() {
	protect := func(_ context.Context, e *hookproto.Event) error {
		if e.Op == hookproto.OpStop && e.Domain == "pg-primary-01" {
			return &hookproto.Veto{Reason: "the billing database; ask its owners first"}
		}
		return nil
	}

	TestHandler := func(t *testing.T) {
		hooktest.Handler(t, protect, hooktest.Config{})
	}

	TestHook := func(t *testing.T) {
		root := t.TempDir() // the root of the hook's host files
		hook := filepath.Join(t.TempDir(), "hook")
		if out, err := exec.Command("go", "build", "-o", hook, ".").CombinedOutput(); err != nil {
			t.Fatalf("%s", out)
		}
		hooktest.Binary(t, hook, hooktest.Config{
			Env: []string{"STOPGUARD_ROOT=" + root},
			Break: func(t *testing.T) {
				if err := os.WriteFile(filepath.Join(root, "etc/stopguard/policy/half.rego"), []byte("package"), 0o644); err != nil {
					t.Fatal(err)
				}
			},
		})
	}

	_, _ = TestHandler, TestHook
}
