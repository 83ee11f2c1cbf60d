package bundles

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/open-policy-agent/opa/v1/logging"

	"github.com/stopguard/stopguard/internal/hostfile"
	"github.com/stopguard/stopguard/internal/hostpath"
	"github.com/stopguard/stopguard/internal/persisted"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/hostpolicy"
)

// A Generation is the policy at one time: the host's own files and the active bundles. It never
// changes. A decision uses the generation that is current when it begins.
type Generation struct {
	Engine  *policy.Engine     // Engine is nil if Err is set.
	Err     error              // Err is the error that prevents the engine; every decision is a fault then.
	Bundles []persisted.Bundle // Bundles are the active bundles, by name.

	files hostfile.Stamp // of the host's own files, before they were read
	began time.Time      // time of the stamp
}

// newGeneration returns a generation with the current stamp of the host's files and without an
// engine.
func (s *Store) newGeneration() *Generation {
	began := time.Now()
	return &Generation{files: hostfile.Root(s.root).Stamp(hostpath.All...), began: began}
}

// A Bundle is a bundle that was read and whose signature was verified.
type Bundle struct {
	persisted.Bundle
	site    policy.Site
	content []byte // nil once it is on disk
}

// A Store holds the current generation and makes the next one. It is safe for concurrent use.
type Store struct {
	root    string
	folder  persisted.Folder
	keys    map[string]policy.SigningKey
	log     logging.Logger
	current atomic.Pointer[Generation]

	changing sync.Mutex // held during a change of the bundles, including tests and writing

	mu      sync.Mutex        // held while the current generation is replaced
	bundles map[string]Bundle // the active ones, by name
	damaged error             // the error of reading persisted bundles; every decision is a fault until all are back
}

// Open reads the persisted bundles and makes the first generation, which may have an error. If
// there are no bundles, Open writes a state without bundles. It returns an error if that fails,
// because a bundle could not be written either.
func Open(ctx context.Context, root string, c persisted.Config, log logging.Logger) (*Store, error) {
	s := &Store{root: root, folder: c.Folder, keys: map[string]policy.SigningKey{}, log: log, bundles: map[string]Bundle{}}
	for id, key := range c.Keys {
		s.keys[id] = policy.SigningKey(key)
	}
	if err := s.readPersisted(); err != nil {
		s.damaged = err
		log.Error("%v; until then every stop is refused", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.replace(ctx, nil)
	if s.damaged == nil && len(s.bundles) == 0 {
		log.Warn("there is no bundle yet; decisions are made by the built-in rules and the host's own files")
		return s, s.folder.Write(persisted.State{}, nil)
	}
	return s, nil
}

func (s *Store) readPersisted() error {
	state, err := s.folder.Read()
	if errors.Is(err, fs.ErrNotExist) {
		if s.folder.HasArchives() {
			return fmt.Errorf("which bundles were persisted cannot be told: %w; let the agent download them again", err)
		}
		return nil
	}
	if err != nil {
		return err
	}
	for _, b := range state.Bundles {
		content, err := s.folder.Archive(b)
		if err != nil {
			return err
		}
		site, err := policy.ReadSignedBundle("bundle "+b.Name, content, policy.Signing{Keys: s.keys, ID: b.KeyID, Scope: b.Scope})
		if err != nil {
			return err
		}
		s.bundles[b.Name] = Bundle{Bundle: b, site: site}
		s.log.Info("bundle %s, revision %s, was read from disk", b.Name, b.Revision)
	}
	return nil
}

// build returns an engine of the host's files and the bundles. All engines of the agent come from
// here.
func build(ctx context.Context, root string, bundles map[string]Bundle) (*policy.Engine, error) {
	config, err := hostpolicy.LoadFiles(root)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(bundles)) {
		config.Sites = append(config.Sites, bundles[name].site)
	}
	return policy.New(ctx, config)
}

// replace makes a generation of the host's present files the current one. It uses the engine of
// ready if ready has the same files. ready may be nil. The caller holds mu.
func (s *Store) replace(ctx context.Context, ready *Generation) {
	g := s.newGeneration()
	g.Err = s.damaged
	for _, name := range slices.Sorted(maps.Keys(s.bundles)) {
		g.Bundles = append(g.Bundles, s.bundles[name].Bundle)
	}
	switch {
	case g.Err != nil:
	case ready != nil && ready.files == g.files:
		g.Engine, g.began = ready.Engine, ready.began
	default:
		g.Engine, g.Err = build(ctx, s.root, s.bundles)
	}
	if last := s.current.Load(); g.Err != nil && (last == nil || last.Err == nil || last.Err.Error() != g.Err.Error()) {
		s.log.Error("no decision can be made: %v", g.Err)
	}
	s.current.Store(g)
}

// Current returns the current generation. It does not check the host's files.
func (s *Store) Current() *Generation { return s.current.Load() }

// Engine returns the current engine. It checks the host's own files each time, because the full
// hook reads them each time.
func (s *Store) Engine(ctx context.Context) (*policy.Engine, error) {
	g := s.current.Load()
	if now := s.newGeneration(); !g.files.Same(now.files) {
		g = s.generationSince(ctx, now.began)
	}
	return g.Engine, g.Err
}

// Refresh makes a new generation if the host's own files have changed. It also does so if they have
// changed so recently that a further change might not show in their stamp.
func (s *Store) Refresh(ctx context.Context) { s.generationSince(ctx, time.Now()) }

// generationSince returns a generation of the host's files at some time after since. Concurrent
// callers share it.
func (s *Store) generationSince(ctx context.Context, since time.Time) *Generation {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.current.Load(); !g.began.After(since) && !g.files.Same(s.newGeneration().files) {
		// Otherwise the generation, which other callers share, would fail if this caller went away.
		s.replace(context.WithoutCancel(ctx), nil)
	}
	return s.current.Load()
}

// Activate makes a new generation with the bundle, after it has passed every check and its own
// tests, and is safe on disk. configured are the names of all bundles in the configuration.
func (s *Store) Activate(ctx context.Context, b Bundle, configured []string) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	s.mu.Lock()
	next := maps.Clone(s.bundles)
	whole := s.damaged == nil
	s.mu.Unlock()

	if a, ok := next[b.Name]; ok && whole && a.SHA256 == b.SHA256 && a.KeyID == b.KeyID && a.Scope == b.Scope {
		return nil // as after a start, when the server sends the persisted bundle
	}
	next[b.Name] = b
	if !whole { // the configuration may no longer have some of the readable bundles
		maps.DeleteFunc(next, func(name string, _ Bundle) bool { return !slices.Contains(configured, name) })
	}
	ready := s.newGeneration()
	var err error
	if ready.Engine, err = build(ctx, s.root, next); err != nil {
		return err
	}
	tests, err := runTests(ctx, b.site)
	if err != nil {
		return err
	}
	// While persisted bundles are lost, nothing is written until all are active. Otherwise a state
	// with some of the bundles would look complete.
	whole = whole || !slices.ContainsFunc(configured, func(name string) bool { return next[name].Name == "" })
	if whole {
		if err := s.persist(next); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bundles = next
	if whole {
		s.damaged = nil
	}
	s.replace(ctx, ready)
	s.log.Info("bundle %s, revision %s, decides now; %d tests passed", b.Name, b.Revision, tests)
	return nil
}

// Retain drops the bundles that are not configured any more.
func (s *Store) Retain(ctx context.Context, configured []string) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	s.mu.Lock()
	next := maps.Clone(s.bundles)
	damaged := s.damaged != nil
	s.mu.Unlock()

	var dropped []string
	for name := range next {
		if !slices.Contains(configured, name) {
			dropped = append(dropped, name)
			delete(next, name)
		}
	}
	if len(dropped) == 0 || damaged {
		return nil
	}
	if err := s.persist(next); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bundles = next
	s.replace(ctx, nil)
	s.log.Warn("bundles %q are not configured any more, and were dropped", dropped)
	return nil
}

// persist writes the bundles to disk, and frees their archives.
func (s *Store) persist(bundles map[string]Bundle) error {
	var state persisted.State
	archives := map[string][]byte{}
	for name, b := range bundles {
		state.Bundles = append(state.Bundles, b.Bundle)
		if b.content != nil {
			archives[b.SHA256] = b.content
			b.content = nil
			bundles[name] = b
		}
	}
	return s.folder.Write(state, archives)
}

// Read reads a downloaded archive, and verifies its signature if the agent has keys.
func (s *Store) Read(name string, content []byte, keyID, scope string) (Bundle, error) {
	if len(content) > persisted.MaxArchive {
		return Bundle{}, fmt.Errorf("bundle %s is larger than %d MiB; leave out what is no policy", name, persisted.MaxArchive>>20)
	}
	site, err := policy.ReadSignedBundle("bundle "+name, content, policy.Signing{Keys: s.keys, ID: keyID, Scope: scope})
	if err != nil {
		return Bundle{}, err
	}
	b := persisted.Bundle{Name: name, Revision: site.Revision, SHA256: persisted.Sum(content), Activated: time.Now().UTC().Truncate(time.Second)}
	if len(s.keys) > 0 {
		b.KeyID, b.Scope = keyID, scope
	}
	return Bundle{Bundle: b, site: site, content: content}, nil
}
