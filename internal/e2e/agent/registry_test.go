//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/registry/remote"
)

// A dockerRegistry is Debian's.
type dockerRegistry struct {
	*process
	t       *testing.T
	folder  string
	address string
}

func newRegistry(t *testing.T) *dockerRegistry {
	r := &dockerRegistry{t: t, folder: t.TempDir(), address: freeAddress(t)}
	r.start()
	return r
}

func (r *dockerRegistry) start() {
	r.t.Helper()
	config := filepath.Join(r.t.TempDir(), "config.yml")
	text := fmt.Sprintf("version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: %s\nhttp:\n  addr: %s\n", r.folder, r.address)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
	r.process = run(r.t, nil, "docker-registry", "serve", config)
	eventually(r.t, "the registry answers", func() error {
		response, err := http.Get("http://" + r.address + "/v2/")
		if err == nil {
			response.Body.Close()
		}
		return err
	})
}

// push publishes a bundle as opa and oras do: a layer of the type of a gzipped tar archive.
func (r *dockerRegistry) push(archive []byte) {
	r.t.Helper()
	ctx := context.Background()
	repository, err := remote.NewRepository(r.address + "/fleet")
	if err != nil {
		r.t.Fatal(err)
	}
	repository.PlainHTTP = true
	layer := content.NewDescriptorFromBytes(ocispec.MediaTypeImageLayerGzip, archive)
	if err := repository.Push(ctx, layer, bytes.NewReader(archive)); err != nil {
		r.t.Fatal(err)
	}
	manifest, err := oras.PackManifest(ctx, repository, oras.PackManifestVersion1_0, "application/vnd.oci.image.config.v1+json",
		oras.PackManifestOptions{Layers: []ocispec.Descriptor{layer}})
	if err == nil {
		err = repository.Tag(ctx, manifest, "stable")
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

func TestARegistryServesBundles(t *testing.T) {
	r := newRegistry(t)
	r.push(bundle(t, "r1"))
	config := fmt.Sprintf(`
services: {registry: {url: 'http://%[1]s', type: oci}}
bundles: {fleet: {service: registry, resource: '%[1]s/fleet:stable', polling: {min_delay_seconds: 1, max_delay_seconds: 1}}}
`, r.address)
	h := newHost(t, config)
	h.start()
	eventually(t, "the bundle decides", func() error { return h.decides("veto: r1") })
	r.push(bundle(t, "r2"))
	eventually(t, "the next one decides", func() error { return h.decides("veto: r2") })

	r.kill()
	h.agent.kill()
	h.start()
	if err := h.decides("veto: r2"); err != nil {
		t.Errorf("started without the registry: %v", err)
	}
	r.start()
	r.push(bundle(t, "r3"))
	eventually(t, "the registry is back", func() error { return h.decides("veto: r3") })
}
