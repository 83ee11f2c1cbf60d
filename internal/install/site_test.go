package install

import (
	"bytes"
	"context"
	"path/filepath"
	"testing"

	"github.com/spf13/cobra"

	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/host"
	"github.com/stopguard/stopguard/internal/host/hosttest"
)

// do runs a command on the host.
func (p *site) do(cmd *cobra.Command, args ...string) (string, error) {
	p.T.Helper()
	p.T.Setenv("STOPGUARD_ROOT", p.Root)
	var out bytes.Buffer
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	err := cmd.ExecuteContext(context.Background())
	return out.String(), err
}

func (p *site) install() string {
	p.T.Helper()
	out, err := p.do(Command(), "--hook", p.Path("/home/stopguard-hook"))
	p.Must(err)
	return out
}

// older has the host be as versions left it that put the programs where the links are now.
func (p *site) older() {
	p.T.Helper()
	p.Put(host.HookLink, p.Content("/home/stopguard-hook"), 0o755)
	p.Put(host.ThinLink, p.Content("/home/stopguard-hook"), 0o755)
	p.Put(host.HookFile, hookproto.Front, 0o755)
	sum := []string{sumOf([]byte(p.Content(host.HookLink)))}
	files := map[string][]string{host.HookLink: sum, host.ThinLink: sum, host.HookFile: {sumOf([]byte(hookproto.Front))}}
	p.Folder(filepath.Dir(manifestFile))
	p.Must(installer{Host: p.Host}.writeManifest(manifest{Files: files, Folders: []string{}}))
}

// A site is a host that install is tried on.
type site struct{ *hosttest.Fixture }

func newSite(t *testing.T) *site { t.Helper(); return &site{hosttest.Bare(t)} }
