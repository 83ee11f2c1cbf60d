package policy

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/spf13/cobra"

	"github.com/stopguard/stopguard/internal/hostfile"
	"github.com/stopguard/stopguard/internal/hostpath"
	"github.com/stopguard/stopguard/internal/sitetest"
	"github.com/stopguard/stopguard/internal/terminal"
	"github.com/stopguard/stopguard/internal/tool/cli"
	"github.com/stopguard/stopguard/internal/tool/domains"
	"github.com/stopguard/stopguard/policy"
)

// OPA's own files in a bundle.
const (
	manifestFile   = ".manifest"
	signaturesFile = ".signatures.json"
)

// The limits of files that are read, in bytes.
const (
	maxBundle = 16 << 20
	maxKey    = 64 << 10
)

func newBuild() *cobra.Command {
	var output, key, revision string
	c := &cobra.Command{
		Use:   "build [DIR] -o FILE",
		Short: "Pack a policy into a bundle, and sign it",
		Long: `Pack a policy into a bundle: its rules, settings, schemas and tests, with a
manifest. A policy that a host would not load is not packed. The same policy
and key make the same bundle, byte for byte.

--sign names a private key in PEM, an RSA key or one on the curve P-256, P-384
or P-521, as openssl genpkey makes it. The bundle is signed as opa sign does.`,
		Example: `  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 \
    -out signing.pem
  openssl pkey -in signing.pem -pubout -out bundle.pem
  stopguard policy build my-policy -o bundle.tar.gz --sign signing.pem`,
		Args: oneFolder,
		RunE: func(c *cobra.Command, args []string) error {
			p, err := open(args)
			if err != nil {
				return err
			}
			files, err := bundleFiles(p.policy, revision)
			if err != nil {
				return err
			}
			var signing signingKey
			if key != "" {
				if signing, err = readSigningKey(key); err != nil {
					return err
				}
				if files[signaturesFile], err = sign(files, signing); err != nil {
					return err
				}
			}
			content, err := pack(files)
			if err != nil {
				return err
			}
			// The result must be a bundle that a host accepts.
			site, err := policy.ReadBundle(output, content, signing.public)
			if err != nil {
				return err
			}
			engine, err := policy.New(c.Context(), policy.Config{Sites: []policy.Site{site}})
			if err != nil {
				return err
			}
			for _, warning := range engine.Warnings() {
				cli.Warn(c, "%v", warning)
			}
			if err := hostfile.Replace(output, content, 0o644); err != nil {
				return fmt.Errorf("%s: %w; name a file that can be written", output, err)
			}
			signed := "not signed"
			if key != "" {
				signed = "signed with " + signing.algorithm
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s: %s, revision %s, %s\n", terminal.Clean(output), terminal.Counted(len(files), "file"), terminal.Clean(site.Revision), signed)
			return err
		},
		ValidArgsFunction: completeFolder,
	}
	c.Flags().StringVarP(&output, "output", "o", "", "file to write, such as bundle.tar.gz")
	c.Flags().StringVar(&key, "sign", "", "private key to sign with, a PEM file")
	c.Flags().StringVar(&revision, "revision", "", "name of this version (default: .manifest's, or a hash)")
	cli.Required(c, "output")
	cli.FreeText(c, "revision")
	return c
}

// bundleFiles returns the files of a bundle of the policy, without a signature.
func bundleFiles(folder, revision string) (map[string][]byte, error) {
	read, err := sitetest.ReadFolder(folder)
	if err != nil {
		return nil, fmt.Errorf("%w; make it readable", err)
	}
	files := map[string][]byte{}
	for name, file := range read {
		if name == manifestFile || !strings.HasPrefix(name, ".") && !strings.Contains(name, "/.") {
			files[name] = file.Data
		}
	}
	manifest := map[string]any{}
	if content, ok := files[manifestFile]; ok {
		if err := json.Unmarshal(content, &manifest); err != nil {
			return nil, fmt.Errorf("%s: %w; correct it", path.Join(folder, manifestFile), err)
		}
	} else {
		manifest["rego_version"] = 1
	}
	if revision != "" {
		manifest["revision"] = revision
	}
	if files[manifestFile], err = json.Marshal(manifest); err != nil {
		return nil, err
	}
	return files, nil
}

// pack returns the files as a compressed archive. The same files result in the same bytes.
func pack(files map[string][]byte) ([]byte, error) {
	var packed bytes.Buffer
	compressed, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	archive := tar.NewWriter(compressed)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(files[name])), ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR}
		if len(name) > 100 {
			header.Format = tar.FormatPAX
		}
		if err := archive.WriteHeader(header); err != nil {
			return nil, fmt.Errorf("%s: %w; rename it", name, err)
		}
		if _, err := archive.Write(files[name]); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(archive.Close(), compressed.Close()); err != nil {
		return nil, err
	}
	return packed.Bytes(), nil
}

func newVerify() *cobra.Command {
	var key string
	c := &cobra.Command{
		Use:   "verify BUNDLE",
		Short: "Check a bundle's signature, and that a host would load it",
		Long: `Check that a bundle is signed by the owner of a key, file by file, and that a
host would load it. Without --key it is the host's own key,
/etc/stopguard/bundle.pem.`,
		Example: "  stopguard policy verify bundle.tar.gz --key bundle.pem",
		Args:    cli.ExactArg("bundle"),
		RunE: func(c *cobra.Command, args []string) error {
			content, err := domains.ReadFile(args[0], maxBundle)
			if err != nil {
				return fmt.Errorf("%w; name a bundle", err)
			}
			var public []byte
			if key != "" {
				public, err = domains.ReadFile(key, maxKey)
			} else {
				key = hostpath.Key
				public, err = hostfile.Root(cli.HostRoot()).Read(hostpath.Key, maxKey)
			}
			if errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("there is no key %s; name the public key with --key", key)
			} else if err != nil {
				return fmt.Errorf("%w; name a public key, a PEM file", err)
			}
			site, err := policy.ReadBundle(args[0], content, public)
			if err != nil {
				return err
			}
			engine, err := policy.New(c.Context(), policy.Config{Sites: []policy.Site{site}})
			if err != nil {
				return err
			}
			for _, warning := range engine.Warnings() {
				cli.Warn(c, "%v", warning)
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s: revision %s, signed by the owner of %s, and can be loaded\n",
				terminal.Clean(args[0]), terminal.Clean(site.Revision), terminal.Clean(key))
			return err
		},
	}
	c.Flags().StringVar(&key, "key", "", "public key, a PEM file (default: the host's)")
	c.ValidArgsFunction = func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return []cobra.Completion{"gz"}, cobra.ShellCompDirectiveFilterFileExt
	}
	return c
}

// hashes returns the hash of each file as OPA signs it. A document's hash is that of its value, any
// other file's that of its bytes.
func hashes(files map[string][]byte) ([]bundle.FileInfo, error) {
	hasher, err := bundle.NewSignatureHasher(bundle.SHA256)
	if err != nil {
		return nil, err
	}
	var infos []bundle.FileInfo
	for _, name := range slices.Sorted(maps.Keys(files)) {
		info, err := hashOf(hasher, name, files[name])
		if err != nil {
			return nil, fmt.Errorf("%s: %w; correct it", name, err)
		}
		infos = append(infos, info)
	}
	return infos, nil
}
