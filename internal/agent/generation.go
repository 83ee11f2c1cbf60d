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

// look begins a generation.
func (k *keep) look() *generation {
	began := time.Now()
	return &generation{files: hostfile.Root(k.root).Stamp(hostpath.All...), began: began}
}

// An active bundle is one that has passed every check.
type active struct {
	persisted.Bundle
	site    policy.Site
	content []byte // nil once it is on disk
}

// A keep holds the current generation and makes the next one. It is safe for concurrent use.
type keep struct {
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
func open(ctx context.Context, root string, c configuration, log logging.Logger) (*keep, error) {
	k := &keep{root: root, folder: c.Folder, keys: map[string]policy.SigningKey{}, log: log, bundles: map[string]active{}}
	for id, key := range c.Keys {
		k.keys[id] = policy.SigningKey(key)
	}
	if err := k.readPersisted(); err != nil {
		k.damaged = err
		log.Error("%v; until then every stop is refused", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.replace(ctx, nil)
	if k.damaged == nil && len(k.bundles) == 0 {
		log.Warn("there is no bundle yet; decisions are made by the built-in rules and the host's own files")
	}
	// If the host's state cannot be written, a bundle could not be stored either.
	if k.damaged == nil && len(k.bundles) == 0 {
		return k, k.folder.Write(persisted.State{}, nil)
	}
	return k, nil
}

func (k *keep) readPersisted() error {
	state, err := k.folder.Read()
	if errors.Is(err, fs.ErrNotExist) {
		if k.folder.HasArchives() {
			return fmt.Errorf("which bundles were persisted cannot be told: %w; let the agent download them again", err)
		}
		return nil
	}
	if err != nil {
		return err
	}
	for _, b := range state.Bundles {
		content, err := k.folder.Archive(b)
		if err != nil {
			return err
		}
		site, err := policy.ReadSignedBundle("bundle "+b.Name, content, policy.Signing{Keys: k.keys, ID: b.KeyID, Scope: b.Scope})
		if err != nil {
			return err
		}
		k.bundles[b.Name] = active{Bundle: b, site: site}
		k.log.Info("bundle %s, revision %s, was read from disk", b.Name, b.Revision)
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
// engine of ready, if there is one, is used for it if it is of the same files. Who calls it holds
// mu.
func (k *keep) replace(ctx context.Context, ready *generation) {
	g := k.look()
	g.err = k.damaged
	for _, name := range slices.Sorted(maps.Keys(k.bundles)) {
		g.bundles = append(g.bundles, k.bundles[name].Bundle)
	}
	switch {
	case g.err != nil:
	case ready != nil && ready.files == g.files:
		g.engine, g.began = ready.engine, ready.began
	default:
		g.engine, g.err = build(ctx, k.root, k.bundles)
	}
	if last := k.current.Load(); g.err != nil && (last == nil || last.err == nil || last.err.Error() != g.err.Error()) {
		k.log.Error("no decision can be made: %v", g.err)
	}
	k.current.Store(g)
}

// Engine returns the current engine. It checks the host's own files each time, as the full hook
// reads them each time.
func (k *keep) Engine(ctx context.Context) (*policy.Engine, error) {
	g := k.current.Load()
	if asked := k.look(); !g.files.Same(asked.files) {
		g = k.refreshed(ctx, asked.began)
	}
	return g.engine, g.err
}

// refresh makes a new generation if the host's own files have changed, or so lately that the next
// change could not be told from it.
func (k *keep) refresh(ctx context.Context) { k.refreshed(ctx, time.Now()) }

// refreshed returns a generation of the host's files as they are, or were after a time. Concurrent
// callers wait for the same one.
func (k *keep) refreshed(ctx context.Context, asked time.Time) *generation {
	k.mu.Lock()
	defer k.mu.Unlock()
	if g := k.current.Load(); !g.began.After(asked) && !g.files.Same(k.look().files) {
		// A generation is everybody's: it must not fail because one who asked has gone away.
		k.replace(context.WithoutCancel(ctx), nil)
	}
	return k.current.Load()
}

// activate makes a new generation with the bundle, once it has passed every check, its own tests,
// and is safe on disk. configured are the names of all bundles that there should be.
func (k *keep) activate(ctx context.Context, b active, configured []string) error {
	k.changing.Lock()
	defer k.changing.Unlock()
	k.mu.Lock()
	next := maps.Clone(k.bundles)
	whole := k.damaged == nil
	k.mu.Unlock()

	if a, ok := next[b.Name]; ok && whole && a.SHA256 == b.SHA256 && a.KeyID == b.KeyID && a.Scope == b.Scope {
		return nil // as after a start, when the server sends what was persisted
	}
	next[b.Name] = b
	if !whole { // of what could still be read, something may have been taken out of the configuration meanwhile
		maps.DeleteFunc(next, func(name string, _ active) bool { return !slices.Contains(configured, name) })
	}
	ready := k.look()
	var err error
	if ready.engine, err = build(ctx, k.root, next); err != nil {
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
		if err := k.persist(next); err != nil {
			return err
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.bundles = next
	if whole {
		k.damaged = nil
	}
	k.replace(ctx, ready)
	k.log.Info("bundle %s, revision %s, decides now; %d tests passed", b.Name, b.Revision, tests)
	return nil
}

// retain drops the bundles that are not configured any more.
func (k *keep) retain(ctx context.Context, configured []string) error {
	k.changing.Lock()
	defer k.changing.Unlock()
	k.mu.Lock()
	next := maps.Clone(k.bundles)
	damaged := k.damaged != nil
	k.mu.Unlock()

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
	if err := k.persist(next); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.bundles = next
	k.replace(ctx, nil)
	k.log.Warn("bundles %q are not configured any more, and were dropped", dropped)
	return nil
}

// persist writes the bundles down, and forgets the archives that are on disk then.
func (k *keep) persist(bundles map[string]active) error {
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
	return k.folder.Write(state, archives)
}

// newBundle reads an archive that was just downloaded.
func (k *keep) newBundle(name string, content []byte, keyID, scope string) (active, error) {
	if len(content) > persisted.MaxArchive {
		return active{}, fmt.Errorf("bundle %s is larger than %d MiB; leave out what is no policy", name, persisted.MaxArchive>>20)
	}
	site, err := policy.ReadSignedBundle("bundle "+name, content, policy.Signing{Keys: k.keys, ID: keyID, Scope: scope})
	if err != nil {
		return active{}, err
	}
	b := persisted.Bundle{Name: name, Revision: site.Revision, SHA256: persisted.Sum(content), Activated: time.Now().UTC().Truncate(time.Second)}
	if len(k.keys) > 0 {
		b.KeyID, b.Scope = keyID, scope
	}
	return active{Bundle: b, site: site, content: content}, nil
}
