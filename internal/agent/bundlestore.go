package agent

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

// A generation is what is decided by at one time: the host's own files and the active bundles. It
// never changes. A decision takes the generation that is current when it begins, and ends with it.
type generation struct {
	engine  *policy.Engine
	err     error // why the engine is missing; every decision is a fault then
	bundles []persisted.Bundle
	files   hostfile.Stamp // of the host's own files, before they were read
	began   time.Time      // when that was
}

// newGeneration returns a generation with the current stamp of the host's files and without an
// engine.
func (s *bundleStore) newGeneration() *generation {
	began := time.Now()
	return &generation{files: hostfile.Root(s.root).Stamp(hostpath.All...), began: began}
}

// An active bundle is one that has passed every check.
type active struct {
	persisted.Bundle
	site    policy.Site
	content []byte // nil once it is on disk
}

// A bundleStore holds the current generation and makes the next one. It is safe for concurrent use.
type bundleStore struct {
	root    string
	folder  persisted.Folder
	keys    map[string]policy.SigningKey
	log     logging.Logger
	current atomic.Pointer[generation]

	changing sync.Mutex // held over one change of the bundles, tests and disk included

	mu      sync.Mutex // held while the current generation is replaced
	bundles map[string]active
	damaged error // what was persisted cannot be read; until it is there again, every decision is a fault
}

// open reads what was persisted and makes the first generation. There always is one: what is wrong
// is in it.
func open(ctx context.Context, root string, c configuration, log logging.Logger) (*bundleStore, error) {
	s := &bundleStore{root: root, folder: c.Folder, keys: map[string]policy.SigningKey{}, log: log, bundles: map[string]active{}}
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
	}
	// If the host's state cannot be written, a bundle could not be stored either.
	if s.damaged == nil && len(s.bundles) == 0 {
		return s, s.folder.Write(persisted.State{}, nil)
	}
	return s, nil
}

func (s *bundleStore) readPersisted() error {
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
		s.bundles[b.Name] = active{Bundle: b, site: site}
		s.log.Info("bundle %s, revision %s, was read from disk", b.Name, b.Revision)
	}
	return nil
}

// build makes an engine. Everything that decides here is made by it.
func build(ctx context.Context, root string, bundles map[string]active) (*policy.Engine, error) {
	config, err := hostpolicy.LoadFiles(root)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(bundles)) {
		config.Sites = append(config.Sites, bundles[name].site)
	}
	return policy.New(ctx, config)
}

// replace makes a generation of the host's files as they are now and makes it the current one. The
// engine of ready, if there is one, is used for it if it is of the same files. The caller holds mu.
func (s *bundleStore) replace(ctx context.Context, ready *generation) {
	g := s.newGeneration()
	g.err = s.damaged
	for _, name := range slices.Sorted(maps.Keys(s.bundles)) {
		g.bundles = append(g.bundles, s.bundles[name].Bundle)
	}
	switch {
	case g.err != nil:
	case ready != nil && ready.files == g.files:
		g.engine, g.began = ready.engine, ready.began
	default:
		g.engine, g.err = build(ctx, s.root, s.bundles)
	}
	if last := s.current.Load(); g.err != nil && (last == nil || last.err == nil || last.err.Error() != g.err.Error()) {
		s.log.Error("no decision can be made: %v", g.err)
	}
	s.current.Store(g)
}

// Engine returns the current engine. It checks the host's own files each time, as the full hook
// reads them each time.
func (s *bundleStore) Engine(ctx context.Context) (*policy.Engine, error) {
	g := s.current.Load()
	if now := s.newGeneration(); !g.files.Same(now.files) {
		g = s.generationSince(ctx, now.began)
	}
	return g.engine, g.err
}

// refresh makes a new generation if the host's own files have changed, or so lately that the next
// change could not be told from it.
func (s *bundleStore) refresh(ctx context.Context) { s.generationSince(ctx, time.Now()) }

// generationSince returns a generation of the host's files as they are now or as they were after
// since. Concurrent callers wait for the same one.
func (s *bundleStore) generationSince(ctx context.Context, since time.Time) *generation {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.current.Load(); !g.began.After(since) && !g.files.Same(s.newGeneration().files) {
		// Other callers share the generation: it must not fail because one of them has gone away.
		s.replace(context.WithoutCancel(ctx), nil)
	}
	return s.current.Load()
}

// activate makes a new generation with the bundle, once it has passed every check, its own tests,
// and is safe on disk. configured are the names of all bundles that there should be.
func (s *bundleStore) activate(ctx context.Context, b active, configured []string) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	s.mu.Lock()
	next := maps.Clone(s.bundles)
	whole := s.damaged == nil
	s.mu.Unlock()

	if a, ok := next[b.Name]; ok && whole && a.SHA256 == b.SHA256 && a.KeyID == b.KeyID && a.Scope == b.Scope {
		return nil // as after a start, when the server sends what was persisted
	}
	next[b.Name] = b
	if !whole { // of what could still be read, something may have been taken out of the configuration meanwhile
		maps.DeleteFunc(next, func(name string, _ active) bool { return !slices.Contains(configured, name) })
	}
	ready := s.newGeneration()
	var err error
	if ready.engine, err = build(ctx, s.root, next); err != nil {
		return err
	}
	tests, err := runTests(ctx, b.site)
	if err != nil {
		return err
	}
	// While what was persisted is lost, a state that names only some of the bundles would pass for
	// all of them.
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

// retain drops the bundles that are not configured any more.
func (s *bundleStore) retain(ctx context.Context, configured []string) error {
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

// persist writes the bundles down, and forgets the archives that are on disk then.
func (s *bundleStore) persist(bundles map[string]active) error {
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

// newBundle reads an archive that was just downloaded.
func (s *bundleStore) newBundle(name string, content []byte, keyID, scope string) (active, error) {
	if len(content) > persisted.MaxArchive {
		return active{}, fmt.Errorf("bundle %s is larger than %d MiB; leave out what is no policy", name, persisted.MaxArchive>>20)
	}
	site, err := policy.ReadSignedBundle("bundle "+name, content, policy.Signing{Keys: s.keys, ID: keyID, Scope: scope})
	if err != nil {
		return active{}, err
	}
	b := persisted.Bundle{Name: name, Revision: site.Revision, SHA256: persisted.Sum(content), Activated: time.Now().UTC().Truncate(time.Second)}
	if len(s.keys) > 0 {
		b.KeyID, b.Scope = keyID, scope
	}
	return active{Bundle: b, site: site, content: content}, nil
}
