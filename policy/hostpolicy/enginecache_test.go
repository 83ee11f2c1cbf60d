package hostpolicy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stopguard/stopguard/internal/persisted"
	"github.com/stopguard/stopguard/internal/testhost"
	"github.com/stopguard/stopguard/policy"
)

// untilKept waits until the engine is kept, which takes as long as a change needs to be told from
// the next.
func untilKept(t *testing.T, h *EngineCache) *policy.Engine {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		first, err := h.Engine(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		second, err := h.Engine(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if first == second {
			return first
		}
		if time.Now().After(deadline) {
			t.Fatal("the engine is never kept")
		}
	}
}

const hostList = "etc/libvirt/protected-domains"

const anyRule = "package stopguard.rules.site\n\nveto contains \"no\" if input.domain.name == %q\n"

func TestAKeptEngineIsNeverOlderThanTheFiles(t *testing.T) {
	t.Parallel()
	rule := fmt.Sprintf(anyRule, "app-01")
	const listed, other = "web-01\n", "web-02\n"
	tests := []struct {
		name, why string
		host      []string
		change    func(t *testing.T, root string)
		stops     string // a domain whose stop is vetoed afterwards, and was not before
		fault     string // or what every question comes to
	}{
		{"the list is appended to", "the same file", []string{hostList, listed}, func(t *testing.T, root string) {
			f, err := os.OpenFile(filepath.Join(root, hostList), os.O_APPEND|os.O_WRONLY, 0)
			must(t, err)
			_, err = f.WriteString(other)
			must(t, err)
			must(t, f.Close())
		}, "web-02", ""},
		{"the list is written in place, and its time set back", "ctime cannot be set", []string{hostList, listed}, func(t *testing.T, root string) {
			asBefore(t, filepath.Join(root, hostList), func(path string) { must(t, os.WriteFile(path, []byte(other), 0o644)) })
		}, "web-02", ""},
		{"the list is replaced by one of the same size and time", "another inode", []string{hostList, listed}, func(t *testing.T, root string) {
			asBefore(t, filepath.Join(root, hostList), func(path string) { replace(t, path, other) })
		}, "web-02", ""},
		{"the list is exchanged with one that lay beside it", "older than the engine", []string{hostList, listed, hostList + ".new", other}, func(t *testing.T, root string) {
			path := filepath.Join(root, hostList)
			must(t, unix.Renameat2(unix.AT_FDCWD, path, unix.AT_FDCWD, path+".new", unix.RENAME_EXCHANGE))
		}, "web-02", ""},
		{"a list comes", "what is absent is watched", nil, func(t *testing.T, root string) { put(t, root, hostList, other) }, "web-02", ""},
		{"the list is replaced by a link to another file", "a hard link: its inode is old", []string{hostList, listed, "etc/other", other}, func(t *testing.T, root string) {
			path := filepath.Join(root, hostList)
			must(t, os.Remove(path))
			must(t, os.Link(filepath.Join(root, "etc/other"), path))
		}, "web-02", ""},
		{"a rule comes", "", []string{hostList, listed}, func(t *testing.T, root string) { put(t, root, "etc/stopguard/policy/site.rego", rule) }, "app-01", ""},
		{"a rule is written in place, and its time set back", "", []string{"etc/stopguard/policy/site.rego", fmt.Sprintf(anyRule, "app-02")}, func(t *testing.T, root string) {
			asBefore(t, filepath.Join(root, "etc/stopguard/policy/site.rego"), func(path string) { must(t, os.WriteFile(path, []byte(rule), 0o644)) })
		}, "app-01", ""},
		{"a rule comes in a folder below", "", []string{"etc/stopguard/policy/a/README.md", "text"}, func(t *testing.T, root string) {
			put(t, root, "etc/stopguard/policy/a/site.rego", rule)
		}, "app-01", ""},
		{"the folder is exchanged", "everything in it is old", []string{"etc/stopguard/policy/README.md", "text", "etc/next/site.rego", rule}, func(t *testing.T, root string) {
			path := filepath.Join(root, "etc/stopguard/policy")
			must(t, unix.Renameat2(unix.AT_FDCWD, path, unix.AT_FDCWD, filepath.Join(root, "etc/next"), unix.RENAME_EXCHANGE))
		}, "app-01", ""},
		{"the folder above is exchanged", "everything in it is old", []string{"etc/stopguard/policy/README.md", "text", "etc/next/policy/site.rego", rule}, func(t *testing.T, root string) {
			path := filepath.Join(root, "etc/stopguard")
			must(t, unix.Renameat2(unix.AT_FDCWD, path, unix.AT_FDCWD, filepath.Join(root, "etc/next"), unix.RENAME_EXCHANGE))
		}, "app-01", ""},
		{"a rule is half written", "the old one is not better than none", []string{"etc/stopguard/policy/site.rego", rule}, func(t *testing.T, root string) {
			put(t, root, "etc/stopguard/policy/site.rego", rule[:len(rule)/2])
		}, "", "site.rego:"},
		{"anybody may write the list", "it is anybody's word", []string{hostList, listed}, func(t *testing.T, root string) {
			must(t, os.Chmod(filepath.Join(root, hostList), 0o666))
		}, "", "is writable by everyone"},
		{"anybody may write a folder above", "", []string{hostList, listed}, func(t *testing.T, root string) { must(t, os.Chmod(filepath.Join(root, "etc"), 0o777)) }, "", "is writable by everyone"},
		{"anybody may write the root", "", []string{hostList, listed}, func(t *testing.T, root string) { must(t, os.Chmod(root, 0o777)) }, "", "is writable by everyone"},
		{"the list becomes a link", "", []string{hostList, listed, "etc/other", listed}, func(t *testing.T, root string) {
			path := filepath.Join(root, hostList)
			must(t, os.Remove(path))
			must(t, os.Symlink("../other", path))
		}, "", "is a link"},
		{"a key comes", "nothing unsigned any more", []string{hostList, listed}, func(t *testing.T, root string) { put(t, root, "etc/stopguard/bundle.pem", "x") }, "", "bundle.pem"},
		{"the root goes", "a host without files is not without protection", []string{hostList, listed}, func(t *testing.T, root string) { must(t, os.Rename(root, root+".gone")) }, "", "the root folder is missing"},
	}
	var roots []string // all made now, so that they are waited for only once
	for _, tt := range tests {
		root := filepath.Join(testhost.Root(t), "root")
		mkdirs(t, root, "etc/libvirt", "etc/stopguard")
		for i := 0; i < len(tt.host); i += 2 {
			put(t, root, tt.host[i], tt.host[i+1])
		}
		roots = append(roots, root)
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := roots[i]
			h := &EngineCache{Root: root}
			before := untilKept(t, h)
			if tt.stops != "" && vetoes(t, before, tt.stops) {
				t.Fatal("it is vetoed before")
			}
			tt.change(t, root)
			for _, when := range []string{"at once", "again"} {
				after, err := h.Engine(context.Background())
				if tt.fault != "" {
					testhost.WantError(t, err, tt.fault)
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				if !vetoes(t, after, tt.stops) {
					t.Errorf("%s, a stop is decided as before (%s)", when, tt.why)
				}
			}
		})
	}
}

// asBefore has a file changed and its time set to what it was.
func asBefore(t *testing.T, path string, change func(string)) {
	t.Helper()
	was, err := os.Stat(path)
	must(t, err)
	change(path)
	must(t, os.Chtimes(path, was.ModTime(), was.ModTime()))
	is, err := os.Stat(path)
	must(t, err)
	if is.Size() != was.Size() || !is.ModTime().Equal(was.ModTime()) {
		t.Fatal("it does not look as before")
	}
}

func replace(t *testing.T, path, content string) {
	t.Helper()
	must(t, os.WriteFile(path+".tmp", []byte(content), 0o644))
	must(t, os.Rename(path+".tmp", path))
}

func put(t *testing.T, root, name, content string) {
	t.Helper()
	mkdirs(t, root, filepath.Dir(name))
	must(t, os.WriteFile(filepath.Join(root, name), []byte(content), 0o644))
}

func mkdirs(t *testing.T, root string, names ...string) {
	t.Helper()
	for _, name := range names {
		must(t, os.MkdirAll(filepath.Join(root, name), 0o755))
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A clock that ticks slower than files are written gives two versions the same time. What changed
// just now must not be kept.
func TestEachOfManyQuickChangesDecidesTheNextQuestion(t *testing.T) {
	t.Parallel()
	root := testhost.Root(t, hostList, "web-0\n")
	h := &EngineCache{Root: root}
	changes := 300
	if testing.Short() {
		changes = 100
	}
	for i := range changes {
		must(t, os.WriteFile(filepath.Join(root, hostList), fmt.Appendf(nil, "web-%d\n", i%10), 0o644))
		e, err := h.Engine(context.Background())
		must(t, err)
		if !vetoes(t, e, fmt.Sprintf("web-%d", i%10)) {
			t.Fatalf("change %d is not seen", i)
		}
	}
}

// TestNoQuestionIsDecidedByWhatWasReplacedBeforeIt decides in many goroutines while the list is
// replaced repeatedly, with pauses in which the engine is cached.
func TestNoQuestionIsDecidedByWhatWasReplacedBeforeIt(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long")
	}
	t.Parallel()
	root := testhost.Root(t, hostList, "web-0\n")
	h := &EngineCache{Root: root}
	var version atomic.Int64
	stop := make(chan struct{})
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				written := version.Load() // lists are only added to, so a later one says the same of it
				e, err := h.Engine(context.Background())
				if err != nil && strings.Contains(err.Error(), "changed while it was read") {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				if !vetoes(t, e, fmt.Sprintf("web-%d", written)) {
					t.Errorf("version %d is not seen", written)
					return
				}
			}
		})
	}
	list := "web-0\n"
	for i := range 20 {
		if i%10 == 9 {
			untilKept(t, h)
		}
		list += fmt.Sprintf("web-%d\n", i+1)
		replace(t, filepath.Join(root, hostList), list)
		version.Store(int64(i + 1))
		time.Sleep(10 * time.Millisecond)
	}
	close(stop)
	wait.Wait()
}

// settledHost is one of which nothing has changed lately, so that its engine is made for all who
// ask.
func settledHost(t *testing.T, pairs ...string) *EngineCache {
	t.Helper()
	h := &EngineCache{Root: testhost.Root(t, pairs...)}
	for deadline := time.Now().Add(time.Minute); !h.stamp(hostPaths(h.Root)).Settled(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it never settles")
		}
	}
	return h
}

func TestWhoWaitsForAnEngineWaitsNoLongerThanTheyMay(t *testing.T) {
	t.Parallel()
	h := settledHost(t)
	h.flight = &flight{done: make(chan struct{})} // another goroutine's, which never ends
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if e, err := h.Engine(ctx); e != nil || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, %v", e, err)
	}
}

func TestWhoWaitsForAnEngineGetsNoneThatWasReadBefore(t *testing.T) {
	t.Parallel()
	h := settledHost(t, hostList, "web-01\n")
	stale := &flight{done: make(chan struct{}), engine: newEngine(t, policy.Config{})}
	h.flight = stale
	type answer struct {
		engine *policy.Engine
		err    error
	}
	answers := make(chan answer)
	const asking = 8
	for range asking {
		go func() {
			e, err := h.Engine(context.Background())
			answers <- answer{e, err}
		}()
	}
	time.Sleep(100 * time.Millisecond) // most of them wait by then
	h.mu.Lock()
	h.flight = nil
	h.mu.Unlock()
	close(stale.done)
	for range asking {
		if a := <-answers; a.err != nil || !vetoes(t, a.engine, "web-01") {
			t.Errorf("%v: a stop is decided by what was there before", a.err)
		}
	}
}

func TestALoadingThatPanicsIsAnErrorAndOver(t *testing.T) {
	t.Parallel()
	h := settledHost(t)
	l, _ := h.join(func() (*policy.Engine, error) { panic("a bug\nin two lines") })
	must(t, l.wait(context.Background()))
	testhost.WantError(t, l.err, "panicked: a bug in two lines; report this")
	if _, err := h.Engine(context.Background()); err != nil {
		t.Errorf("the next one: %v", err)
	}
}

func TestAnEngineIsKeptAlsoIfWhoAskedHasLeft(t *testing.T) {
	t.Parallel()
	h := settledHost(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := h.Engine(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); h.cached() == nil; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it is thrown away")
		}
	}
}

func BenchmarkEngineCache(b *testing.B) {
	root := testhost.Root(b, hostList, "web-01\n", "etc/stopguard/policy/site.rego", fmt.Sprintf(anyRule, "app-01"))
	h := &EngineCache{Root: root}
	time.Sleep(3 * time.Second)
	for b.Loop() {
		if _, err := h.Engine(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}

// What an agent leaves for when it does not run is the host's policy too, wherever its
// configuration says that it is.
func TestAKeptEngineIsNeverOlderThanWhatAnAgentLeft(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long")
	}
	t.Parallel()
	const config = "services: {}\npersistence_directory: %s\n"
	root := testhost.Root(t, "etc/stopguard/agent.yaml", fmt.Sprintf(config, "/var/lib/elsewhere"))
	write := func(folder, name string) {
		t.Helper()
		content := testhost.Bundle(t, map[string]string{"site.rego": fmt.Sprintf(anyRule, name), ".manifest": `{"roots": [""], "rego_version": 1}`})
		sum := persisted.Sum(content)
		state := persisted.State{Bundles: []persisted.Bundle{{Name: "fleet", SHA256: sum}}}
		must(t, persisted.Folder{Root: root, Path: folder}.Write(state, map[string][]byte{sum: content}))
	}
	write("/var/lib/elsewhere", "web-01")
	write("/var/lib/third", "web-03")
	h := &EngineCache{Root: root}
	decidesBy := func(name string) {
		t.Helper()
		e, err := h.Engine(context.Background())
		must(t, err)
		if !vetoes(t, e, name) {
			t.Errorf("it does not decide by %s", name)
		}
	}
	untilKept(t, h)
	decidesBy("web-01")
	write("/var/lib/elsewhere", "web-02")
	decidesBy("web-02")
	untilKept(t, h)
	must(t, os.WriteFile(filepath.Join(root, "etc/stopguard/agent.yaml"), fmt.Appendf(nil, config, "/var/lib/third"), 0o644))
	decidesBy("web-03")
	untilKept(t, h)
	must(t, os.RemoveAll(filepath.Join(root, "var/lib/third")))
	_, err := h.Engine(context.Background())
	testhost.WantError(t, err, "nothing says which bundles it had")
}
