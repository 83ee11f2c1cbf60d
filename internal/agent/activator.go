package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/storage"

	"github.com/stopguard/stopguard/internal/persisted"
)

// An activator replaces OPA's own activator. That one would compile a bundle and write it into
// OPA's store; this one builds a generation from it. If it fails, OPA puts the error into its log,
// its metrics and its status, keeps the previous bundle and retries.
//
// OPA has one activator per process. The store identifies the agent that a bundle is for.
type activator struct{ controlPlanes sync.Map } // *controlPlane by storage.Store

const activatorID = "stopguard"

var activators activator

func init() {
	bundle.RegisterActivator(activatorID, &activators)
	bundle.RegisterDefaultBundleActivator(activatorID)
}

func (a *activator) add(store storage.Store, p *controlPlane) { a.controlPlanes.Store(store, p) }
func (a *activator) remove(store storage.Store)               { a.controlPlanes.Delete(store) }

// Activate activates a bundle. OPA's bundle plugin calls it, for one bundle at a time.
func (a *activator) Activate(o *bundle.ActivateOpts) error {
	p, ok := a.controlPlanes.Load(o.Store)
	if !ok {
		return errors.New("no agent is there to decide by this bundle; report this")
	}
	for name, b := range o.Bundles {
		if err := p.(*controlPlane).activate(o.Ctx, name, b); err != nil {
			return err
		}
	}
	return nil
}

// activate builds a generation from the archive that OPA has just read.
func (p *controlPlane) activate(ctx context.Context, name string, b *bundle.Bundle) error {
	plugin := p.bundlePlugin()
	if plugin == nil {
		return errors.New("the bundle plugin is not there yet; it will be asked again")
	}
	sources := plugin.Config().Bundles
	source := sources[name]
	if source == nil {
		return errors.New("the bundle is not configured any more")
	}
	var configured []string
	for other := range sources {
		configured = append(configured, other)
	}
	if b.Type() != bundle.SnapshotBundleType {
		return errors.New("it is a delta bundle, which changes another; serve whole ones")
	}
	content, err := p.archive(source.Service, source.Resource, b.Etag)
	if err != nil {
		return err
	}
	var keyID, scope string
	if source.Signing != nil {
		keyID, scope = source.Signing.KeyID, source.Signing.Scope
	}
	next, err := p.bundles.Read(name, content, keyID, scope)
	if err != nil {
		return err
	}
	if err := p.bundles.Activate(ctx, next, configured); err != nil {
		return err
	}
	p.metrics.activated(name, nil) // attempted counts the failures, with those of the download
	return nil
}

// archive returns the bytes of the bundle that OPA has just read from a source.
func (p *controlPlane) archive(service, resource, etag string) ([]byte, error) {
	if u, err := url.Parse(resource); err == nil && u.Scheme == "file" {
		return readLocal(p.root, u.Path)
	}
	client := p.manager.Client(service)
	if strings.EqualFold(client.Config().Type, "oci") {
		return p.blob(etag)
	}
	content, ok := p.archives.load(client.Config().URL + "/" + strings.Trim(resource, "/"))
	if !ok {
		return nil, errors.New("its archive was not kept; report this")
	}
	return content, nil
}

// blob reads the layer that OPA has just copied from a registry into its own folder.
func (p *controlPlane) blob(digest string) ([]byte, error) {
	f, err := os.Open(filepath.Join(*p.manager.GetConfig().PersistenceDirectory, "oci", "blobs", "sha256", digest))
	if err != nil {
		return nil, fmt.Errorf("its layer cannot be read: %w; look at the disk", err)
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, persisted.MaxArchive+1))
	if err == nil && len(content) <= persisted.MaxArchive && persisted.Sum(content) != digest {
		err = errors.New("it is not what its digest says; it will be downloaded again")
	}
	return content, err
}
