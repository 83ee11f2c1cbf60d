package agent

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stopguard/stopguard/internal/testhost"
	"github.com/stopguard/stopguard/internal/testsigner"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/hostpolicy"
)

// tarred packs files as the authoring guide does, with names that begin with "./".
func tarred(t testing.TB, files map[string]string) []byte {
	t.Helper()
	folder, packed := t.TempDir(), filepath.Join(t.TempDir(), "bundle.tar.gz")
	for name, content := range files {
		testhost.Put(t, folder, name, content)
	}
	cmd := exec.Command("tar", "-czf", packed, ".")
	cmd.Dir = folder
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	content, err := os.ReadFile(packed)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// What the guide's author packs is read by the hook from a file, and by the agent from its server.
func TestTheGuidesBundleIsTakenByHookAndAgent(t *testing.T) {
	t.Parallel()
	const guide = "../../examples/policy-bundle/policy"
	files := map[string]string{".manifest": `{"revision": "guide", "roots": ["stopguard/rules", "site"]}`}
	err := fs.WalkDir(os.DirFS(guide), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || name == ".manifest" {
			return err
		}
		content, err := os.ReadFile(filepath.Join(guide, name))
		files[name] = string(content)
		return err
	})
	if err != nil || len(files) < 3 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	key := testsigner.New(t)
	content := tarred(t, key.Sign(t, files, "fleet"))
	if site, err := policy.ReadBundle("guide", content, []byte(key.Public)); err != nil || site.Revision != "guide" {
		t.Fatalf("the hook: %v", err)
	}
	server := serveBundle(t, saying("r0"))
	server.set(content)
	h := newHost(t, server.config(keysOf(key)))
	a := h.start()
	h.eventually("the agent activates it", func() error {
		status, body, err := a.get("/health?bundles")
		if err == nil && (status != 200 || !strings.Contains(body, `"revision":"guide"`)) {
			err = fmt.Errorf("%d %s", status, body)
		}
		return err
	})
	a.stop()
	if c, err := hostpolicy.Load(h.root); err != nil || len(c.Sites) != 1 || c.Sites[0].Revision != "guide" {
		t.Errorf("the hook of a host with the agent: %v", err)
	}
}

// A bundle that never gets as far as the agent's own checks is a failure like any other.
func TestEachBundleThatIsRefusedIsCountedAndShown(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long")
	}
	t.Parallel()
	right, wrong := testsigner.New(t), testsigner.New(t)
	altered := func() map[string]string {
		files := right.Sign(t, saying("r2"), "fleet")
		files["fleet.rego"] = saying("r3")["fleet.rego"]
		return files
	}
	twice := testhost.Bundle(t, right.Sign(t, saying("r2"), "fleet"))
	for _, tt := range []struct {
		why     string
		content []byte
	}{
		{"it is unsigned", testhost.Bundle(t, saying("r2"))},
		{"it is unsigned, and its names begin with ./", tarred(t, saying("r2"))},
		{"another key signed it", testhost.Bundle(t, wrong.Sign(t, saying("r2"), "fleet"))},
		{"it was altered", testhost.Bundle(t, altered())},
		{"it was altered, and its names begin with ./", tarred(t, altered())},
		{"it is no archive", []byte("<html>maintenance</html>")},
		{"it is cut off", twice[:len(twice)/2]},
		{"it is empty", nil},
		{"it fails a check of the agent's own", testhost.Bundle(t, right.Sign(t, map[string]string{"x.rego": "package stopguard.rules.x\n\nveto contains 7 if nosuch(1)\n"}, "fleet"))},
	} {
		t.Run(tt.why, func(t *testing.T) {
			t.Parallel()
			server := serveBundle(t, right.Sign(t, saying("r1"), "fleet"))
			h := newHost(t, server.config(keysOf(right)))
			a := h.start()
			h.eventually("the first decides", func() error { return a.decides("web-01", "veto: r1") })
			if status, body, err := a.get("/health?bundles"); err != nil || status != 200 {
				t.Fatalf("%d %s %v", status, body, err)
			}
			server.set(tt.content)
			h.eventually("it is counted and shown", func() error {
				_, metrics, err := a.get("/metrics")
				if err == nil && !strings.Contains(metrics, `stopguard_bundle_activations_total{bundle="fleet",result="failure"}`) {
					err = fmt.Errorf("it is not counted")
				}
				if err != nil {
					return err
				}
				status, body, err := a.get("/health?bundles")
				if err == nil && (status != 500 || !strings.Contains(body, "bundle fleet was refused when it was sent last: ")) {
					err = fmt.Errorf("%d %s", status, body)
				}
				return err
			})
			if status, body, err := a.get("/health"); err != nil || status != 200 {
				t.Errorf("decisions can be made: %d %s %v", status, body, err)
			}
			if err := a.decides("web-01", "veto: r1"); err != nil {
				t.Error(err)
			}
			server.set(testhost.Bundle(t, right.Sign(t, saying("r4"), "fleet")))
			h.eventually("the next is well", func() error {
				status, body, err := a.get("/health?bundles")
				if err == nil && status != 200 {
					err = fmt.Errorf("%d %s", status, body)
				}
				return err
			})
		})
	}
}

// A server that does not answer is counted. It makes no host unhealthy: the last bundle decides,
// and what a host's probe restarts would not bring the server back.
func TestAServerThatDoesNotAnswerIsCounted(t *testing.T) {
	t.Parallel()
	server := serveBundle(t, saying("r1"))
	h := newHost(t, server.config(""))
	a := h.start()
	h.eventually("the bundle decides", func() error { return a.decides("web-01", "veto: r1") })
	server.down()
	h.eventually("it is counted", func() error {
		_, metrics, err := a.get("/metrics")
		if err == nil && !strings.Contains(metrics, `stopguard_bundle_activations_total{bundle="fleet",result="failure"}`) {
			err = fmt.Errorf("it is not counted")
		}
		return err
	})
	if status, body, err := a.get("/health?bundles"); err != nil || status != 200 {
		t.Errorf("%d %s %v", status, body, err)
	}
}
