package agent

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/stopguard/stopguard/internal/hostfile"
	"github.com/stopguard/stopguard/internal/persisted"
)

// readLocal returns a bundle on the host: an archive, or a folder, which it packs. It refuses a
// bundle that others than its owners could write, like every file that the host decides by.
func readLocal(root, name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	// OPA does not know the root, so the path starts at "/".
	at := hostfile.Root("")
	if relative, ok := strings.CutPrefix(name, strings.TrimSuffix(root, "/")+"/"); ok && root != "" {
		at, name = hostfile.Root(root), "/"+relative
	}
	if !info.IsDir() {
		return at.Read(name, persisted.MaxArchive)
	}
	folder, err := at.ReadDir(name, hostfile.Limits{Bytes: persisted.MaxArchive})
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for _, hidden := range []string{".manifest", ".signatures.json"} { // ReadDir leaves such names out
		content, err := at.Read(path.Join(name, hidden), persisted.MaxArchive)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		files[hidden] = content
	}
	err = fs.WalkDir(folder, ".", func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		files[file], err = fs.ReadFile(folder, file)
		return err
	})
	if err != nil {
		return nil, err
	}
	return pack(files)
}

// pack returns an archive of the files. The same files result in the same bytes.
func pack(files map[string][]byte) ([]byte, error) {
	var packed bytes.Buffer
	zipped := gzip.NewWriter(&packed)
	archive := tar.NewWriter(zipped)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		header := &tar.Header{Name: "/" + name, Typeflag: tar.TypeReg, Mode: 0o600, Size: int64(len(files[name]))}
		if err := archive.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := archive.Write(files[name]); err != nil {
			return nil, err
		}
	}
	err := errors.Join(archive.Close(), zipped.Close())
	return packed.Bytes(), err
}

// localPace is how often a local bundle is checked. OPA's bundle plugin reads a file only at its
// start.
const localPace = time.Second

// watchLocal makes OPA's plugin read local bundles again after a change, when two successive stamps
// agree. It reads them once more when the stamp is old enough that every later change would differ
// from it.
func (p *controlPlane) watchLocal(ctx context.Context) {
	type state struct{ seen, loaded hostfile.Stamp }
	looks := map[string]*state{}
	tick := time.NewTicker(localPace)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		plugin := p.bundlePlugin()
		if plugin == nil {
			continue
		}
		p.listen() // the plugin may be discovered late
		for name, source := range plugin.Config().Bundles {
			u, err := url.Parse(source.Resource)
			if err != nil || u.Scheme != "file" {
				continue
			}
			// The stamp is of the bundle without the folders above it, where other files may
			// change.
			now := hostfile.Root(u.Path).Stamp("/")
			at, known := looks[name]
			if !known { // the plugin reads it at its start
				looks[name] = &state{seen: now}
				continue
			}
			if now == at.seen && now != at.loaded {
				at.loaded = now
				_ = plugin.Trigger(ctx) // for all bundles, which is harmless; the plugin logs and reports its errors
			}
			at.seen = now
		}
	}
}
