package hostpolicy

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stopguard/stopguard/internal/persisted"
	"github.com/stopguard/stopguard/internal/testhost"
	"github.com/stopguard/stopguard/internal/testsigner"
	"github.com/stopguard/stopguard/policy"
)

// agentConfig is an agent's configuration with a public key that bundles must be signed with, if s
// is there.
func agentConfig(t testing.TB, s *testsigner.Signer) string {
	t.Helper()
	config := map[string]any{"services": map[string]any{"plane": map[string]any{"url": "https://plane.invalid"}}}
	if s != nil {
		config["keys"] = map[string]any{"fleet": map[string]any{"key": s.Public, "algorithm": "ES256"}}
	}
	content, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// hostWithAgent is a host whose agent persisted the archives, by their names.
func hostWithAgent(t *testing.T, config string, archives map[string][]byte) (root string, folder persisted.Folder) {
	t.Helper()
	root = testhost.Root(t, "etc/stopguard/agent.yaml", config)
	folder = persisted.Folder{Root: root, Path: "/var/lib/stopguard/agent"}
	var state persisted.State
	contents := map[string][]byte{}
	for name, content := range archives {
		state.Bundles = append(state.Bundles, persisted.Bundle{Name: name, SHA256: persisted.Sum(content), KeyID: "fleet"})
		contents[persisted.Sum(content)] = content
	}
	if err := folder.Write(state, contents); err != nil {
		t.Fatal(err)
	}
	return root, folder
}

func signed(t testing.TB, s testsigner.Signer) []byte {
	t.Helper()
	files := bundleFiles()
	files = s.Sign(t, files, "")
	return testhost.Bundle(t, files)
}

func TestAHostWithAnAgentDecidesByItsBundlesToo(t *testing.T) {
	s := testsigner.New(t)
	root, _ := hostWithAgent(t, agentConfig(t, &s), map[string][]byte{"fleet": signed(t, s)})
	c, err := Load(root)
	if err != nil || len(c.Sites) != 1 {
		t.Fatalf("%d sites, %v", len(c.Sites), err)
	}
	if _, err := policy.New(context.Background(), c); err != nil {
		t.Error(err)
	}
	own, err := LoadFiles(root)
	if err != nil || len(own.Sites) != 0 {
		t.Errorf("the host's own files: %d sites, %v", len(own.Sites), err)
	}
}

func TestAnAgentThatNeverHadABundleLeavesTheHostsOwnFiles(t *testing.T) {
	root, _ := hostWithAgent(t, agentConfig(t, nil), nil)
	if c, err := Load(root); err != nil || len(c.Sites) != 0 {
		t.Errorf("%d sites, %v", len(c.Sites), err)
	}
}

func TestWhatAnAgentLeftIsVerifiedOrAFault(t *testing.T) {
	right, wrong := testsigner.New(t), testsigner.New(t)
	const folder = "var/lib/stopguard/agent"
	archive := func(t *testing.T, root string) string {
		files, err := filepath.Glob(filepath.Join(root, folder, "bundles", "*.tar.gz"))
		if err != nil || len(files) != 1 {
			t.Fatal(files, err)
		}
		return files[0]
	}
	tests := []struct {
		name, why string
		config    string
		content   []byte
		harm      func(t *testing.T, root string)
		want      []string
	}{
		{"the archive is gone", "not the same as never having had one", agentConfig(t, nil), signed(t, right),
			func(t *testing.T, root string) { remove(t, archive(t, root)) }, []string{`the persisted bundle "fleet" is gone`, "start it"}},
		{"the archive is cut", "a full disk", agentConfig(t, nil), signed(t, right),
			func(t *testing.T, root string) { truncate(t, archive(t, root)) }, []string{"is damaged", "start it"}},
		{"the archive is another", "whole, but not what was activated", agentConfig(t, nil), signed(t, right),
			func(t *testing.T, root string) { write(t, archive(t, root), signed(t, wrong)) }, []string{"is damaged"}},
		{"the state is gone", "nobody knows which bundles there were", agentConfig(t, nil), signed(t, right),
			func(t *testing.T, root string) { remove(t, filepath.Join(root, folder, "state.json")) },
			[]string{"/etc/stopguard/agent.yaml", "nothing says which bundles it had", "start the agent once"}},
		{"all of the state is gone", "", agentConfig(t, nil), signed(t, right),
			func(t *testing.T, root string) { remove(t, filepath.Join(root, folder)) }, []string{"start the agent once"}},
		{"the state is cut", "", agentConfig(t, nil), signed(t, right),
			func(t *testing.T, root string) { truncate(t, filepath.Join(root, folder, "state.json")) }, []string{"is not as the agent wrote it"}},
		{"the state names another file", "a path is never taken from it", agentConfig(t, nil), signed(t, right),
			func(t *testing.T, root string) {
				write(t, filepath.Join(root, folder, "state.json"), []byte(`{"version": 1, "bundles": [{"name": "fleet", "sha256": "../../../x"}]}`))
			}, []string{"is not as the agent wrote it"}},
		{"the state is of a later version", "", agentConfig(t, nil), signed(t, right),
			func(t *testing.T, root string) {
				write(t, filepath.Join(root, folder, "state.json"), []byte(`{"version": 2, "bundles": []}`))
			}, []string{"version 2"}},
		{"the signature is of another key", "somebody exchanged archive and state together", agentConfig(t, &right), signed(t, wrong),
			func(*testing.T, string) {}, []string{"signature is not of this key"}},
		{"there is no signature", "with keys, nothing unsigned", agentConfig(t, &right), testhost.Bundle(t, bundleFiles()),
			func(*testing.T, string) {}, []string{"is not signed"}},
		{"the configuration cannot be read", "its keys say what is accepted", "keys: [", signed(t, right),
			func(*testing.T, string) {}, []string{"/etc/stopguard/agent.yaml"}},
		{"a key is empty", "it would verify nothing", `{"keys": {"fleet": {"algorithm": "ES256"}}}`, signed(t, right),
			func(*testing.T, string) {}, []string{"keys.fleet"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root, _ := hostWithAgent(t, tt.config, map[string][]byte{"fleet": tt.content})
			tt.harm(t, root)
			_, err := Load(root)
			testhost.WantError(t, err, append(tt.want, "; ")...)
		})
	}
}

// An agent that changes its bundles while a hook reads them must not make it fail: the archive that
// an old state names is removed.
func TestBundlesMayChangeWhileTheyAreRead(t *testing.T) {
	files := bundleFiles()
	first := testhost.Bundle(t, files)
	files[".manifest"] = `{"revision": "second"}`
	second := testhost.Bundle(t, files)
	root, folder := hostWithAgent(t, agentConfig(t, nil), map[string][]byte{"fleet": first})
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			content := [][]byte{first, second}[i%2]
			sum := persisted.Sum(content)
			state := persisted.State{Bundles: []persisted.Bundle{{Name: "fleet", SHA256: sum, KeyID: "fleet", Activated: time.Now()}}}
			if err := folder.Write(state, map[string][]byte{sum: content}); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for range 300 {
		c, err := Load(root)
		if err != nil || len(c.Sites) != 1 {
			t.Errorf("%d sites, %v", len(c.Sites), err)
			break
		}
	}
	close(stop)
	<-done
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

func truncate(t *testing.T, path string) {
	t.Helper()
	info, err := os.Stat(path)
	if err == nil {
		err = os.Truncate(path, info.Size()/2)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}
