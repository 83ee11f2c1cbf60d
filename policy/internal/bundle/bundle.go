// Package bundle reads OPA's bundles, and verifies who signed them.
package bundle

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"reflect"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/util"

	"github.com/stopguard/stopguard/internal/memfs"
	"github.com/stopguard/stopguard/internal/problem"
	"github.com/stopguard/stopguard/policy/internal/jsontree"
	"github.com/stopguard/stopguard/policy/internal/module"
	"github.com/stopguard/stopguard/policy/internal/settings"
)

// The limits of a bundle.
const (
	maxBundle      = 64 << 20 // bytes of the unpacked archive
	maxBundleFiles = 10_000   // and folders
)

// Files of a bundle that are OPA's and hold no rule or setting.
const (
	manifestFile   = ".manifest"
	signaturesFile = ".signatures.json"
)

// A Verification returns how the signature of a bundle is verified.
type Verification func() (*bundle.VerificationConfig, error)

// A SigningKey is a key that may have signed a bundle.
type SigningKey struct {
	Key       string // a public key in PEM, or a secret for the algorithms HS256 to HS512
	Algorithm string // "" means RS256
	Scope     string // the scope of its signatures
}

// ByKey verifies by one public key in PEM.
func ByKey(key []byte) Verification {
	return func() (*bundle.VerificationConfig, error) { return verificationOf(key) }
}

// ByKeys verifies by one of several keys: that with the ID, or, if it is "", the one that the
// signature names.
func ByKeys(keys map[string]SigningKey, id, scope string) Verification {
	configs := map[string]*bundle.KeyConfig{}
	for id, k := range keys {
		configs[id] = &bundle.KeyConfig{Key: k.Key, Algorithm: cmp.Or(k.Algorithm, "RS256"), Scope: k.Scope}
	}
	return func() (*bundle.VerificationConfig, error) {
		return bundle.NewVerificationConfig(configs, id, scope, nil), nil
	}
}

// Read reads the files of a bundle and its revision, and verifies it unless verify is nil.
func Read(content []byte, verify Verification) (files fs.FS, revision string, err error) {
	unpacked, err := unpack(content)
	if err != nil {
		return nil, "", err
	}
	if verify != nil {
		config, err := verify()
		if err != nil {
			return nil, "", fmt.Errorf("its key %w", err)
		}
		if err := verifyBundle(unpacked, config); err != nil {
			return nil, "", err
		}
	}
	if err := checkBundleFiles(unpacked); err != nil {
		return nil, "", err
	}
	if revision, err = readManifest(unpacked); err != nil {
		return nil, "", err
	}
	if revision == "" {
		sum := sha256.Sum256(content)
		revision = hex.EncodeToString(sum[:])
	}
	delete(unpacked, manifestFile)
	delete(unpacked, signaturesFile)
	return memfs.New(unpacked), revision, nil
}

// unpack reads the files of an archive. It refuses content that one reader of archives could see
// and another could not.
func unpack(content []byte) (map[string][]byte, error) {
	archive, err := gunzip(content)
	if err != nil {
		return nil, err
	}
	files, folders := map[string][]byte{}, map[string]bool{}
	rest := bytes.NewReader(archive)
	reader := tar.NewReader(rest)
	end := 0 // of the last entry
	for n := 0; ; n++ {
		header, err := reader.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, torn(err)
		}
		if n == maxBundleFiles {
			return nil, fmt.Errorf("holds more than %d files; leave out what is no policy", maxBundleFiles)
		}
		name, err := entryName(header)
		if err != nil {
			return nil, err
		}
		if header.Typeflag == tar.TypeDir {
			folders[name] = true
		} else {
			if header.Size > int64(rest.Len()) {
				return nil, torn(io.ErrUnexpectedEOF)
			}
			if _, twice := files[name]; twice {
				return nil, fmt.Errorf("holds %q twice; pack it anew", name)
			}
			files[name] = make([]byte, header.Size)
			if _, err := io.ReadFull(reader, files[name]); err != nil {
				return nil, torn(err)
			}
		}
		end = len(archive) - rest.Len()
	}
	// A tar archive ends with two blocks of zeros, and many programs add more.
	const block = 512
	tail := archive[min((end+block-1)/block*block, len(archive)):]
	if len(tail) < 2*block || len(bytes.Trim(tail, "\x00")) > 0 {
		return nil, torn(errors.New("the archive has no proper end"))
	}
	for name := range files {
		for folder := path.Dir(name); folder != "."; folder = path.Dir(folder) {
			folders[folder] = true
		}
	}
	for name := range files {
		if folders[name] {
			return nil, fmt.Errorf("holds %q as a file and as a folder; pack it anew", name)
		}
	}
	return files, nil
}

func torn(err error) error {
	return fmt.Errorf("cannot be unpacked: %s; copy or pack it anew", problem.OneLine(err.Error()))
}

func gunzip(content []byte) ([]byte, error) {
	source := bytes.NewReader(content)
	stream, err := gzip.NewReader(source)
	if err != nil {
		return nil, torn(err)
	}
	stream.Multistream(false)
	archive, err := io.ReadAll(io.LimitReader(stream, maxBundle+1))
	switch {
	case err != nil:
		return nil, torn(err)
	case len(archive) > maxBundle:
		return nil, fmt.Errorf("is larger than %d MiB unpacked; leave out what is no policy", maxBundle>>20)
	case source.Len() > 0:
		return nil, torn(errors.New("something follows the compressed archive"))
	}
	return archive, nil
}

// entryName returns the path of an entry in the form of io/fs. OPA writes /data.json, and tar
// ./data.json.
func entryName(header *tar.Header) (string, error) {
	switch {
	case header.Typeflag != tar.TypeReg && header.Typeflag != tar.TypeDir:
		return "", fmt.Errorf("%q is neither a file nor a folder (tar's type %q); pack regular files only", header.Name, header.Typeflag)
	case slices.ContainsFunc(slices.Collect(maps.Keys(header.PAXRecords)), func(key string) bool { return strings.HasPrefix(key, "GNU.sparse.") }):
		return "", fmt.Errorf("%q is a sparse file; pack it as a regular one", header.Name)
	}
	name := header.Name
	if header.Typeflag == tar.TypeDir {
		name = strings.TrimSuffix(name, "/")
		if name == "" || name == "." {
			return ".", nil
		}
	}
	if short, ok := strings.CutPrefix(name, "./"); ok {
		name = short
	} else {
		name = strings.TrimPrefix(name, "/")
	}
	isOdd := func(r rune) bool { return r == utf8.RuneError || r == '\\' || !unicode.IsPrint(r) }
	if name == "." || !fs.ValidPath(name) || strings.ContainsFunc(name, isOdd) {
		return "", fmt.Errorf("%q is no plain path inside the bundle; pack it from within the policy's folder", header.Name)
	}
	return name, nil
}

// verifyBundle accepts the files if they are those that a key's owner signed, all of them and no
// others. Nothing of them but the signature is read before.
func verifyBundle(files map[string][]byte, verification *bundle.VerificationConfig) error {
	content, ok := files[signaturesFile]
	if !ok {
		return errors.New("is not signed, but there is a key for it; sign it with opa sign")
	}
	var signatures bundle.SignaturesConfig
	if err := json.Unmarshal(content, &signatures); err != nil {
		return fmt.Errorf("%s: %s; sign the bundle anew", signaturesFile, problem.OneLine(err.Error()))
	}
	// The file itself says which plugin is to judge it. "_default" cannot be replaced by another.
	if signatures.Plugin != "" && signatures.Plugin != "_default" {
		return fmt.Errorf("%s asks for the plugin %q; sign the bundle without one", signaturesFile, signatures.Plugin)
	}
	signed, err := bundle.VerifyBundleSignature(signatures, verification)
	if err != nil {
		return fmt.Errorf("its signature is not of this key: %s; sign it with the private key of this public one", problem.OneLine(err.Error()))
	}
	for _, name := range slices.Sorted(maps.Keys(signed)) {
		if algorithm := signed[name].Algorithm; algorithm == string(bundle.MD5) || algorithm == string(bundle.SHA1) {
			return fmt.Errorf("%s is signed by its %s, which can be forged; sign the bundle with opa sign", name, algorithm)
		}
		if _, ok := files[name]; !ok {
			return fmt.Errorf("%q was signed and is missing; pack what was signed", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if name == signaturesFile {
			continue
		}
		if _, ok := signed[name]; !ok {
			return fmt.Errorf("%q was not signed; sign what is packed", name)
		}
		// OPA's error may quote the content.
		if err := bundle.VerifyBundleFile(name, *bytes.NewBuffer(files[name]), signed); err != nil {
			return fmt.Errorf("%q is not as it was signed; sign what is packed", name)
		}
		if err := checkReadAlike(name, files[name]); err != nil {
			return err
		}
	}
	return nil
}

// checkReadAlike refuses a document that means one thing to OPA, whose reading is signed, and
// another here, as a key that is there twice does.
func checkReadAlike(name string, content []byte) error {
	if !bundle.IsStructuredDoc(name) {
		return nil
	}
	parse := jsontree.ParseValue
	if bundle.IsYAMLDataFile(name) {
		parse = settings.ParseYAML
	}
	ours, err := parse(content)
	if err != nil {
		return fmt.Errorf("%s: %s; correct it", name, problem.OneLine(err.Error()))
	}
	var theirs any
	if err := util.Unmarshal(content, &theirs); err != nil {
		return fmt.Errorf("%s: %s; correct it", name, problem.OneLine(err.Error()))
	}
	if theirs == nil && len(bytes.TrimSpace(content)) > 0 {
		theirs = ours // nothing but comments
	}
	if !reflect.DeepEqual(ours, theirs) {
		return fmt.Errorf("%s: OPA reads and signs other values than are written there; quote texts, and write plain numbers", name)
	}
	return nil
}

// verificationOf reads a public key, whose kind alone says how it signs.
func verificationOf(key []byte) (*bundle.VerificationConfig, error) {
	const cure = "write the public key alone into it, as openssl pkey -pubout prints it"
	block, rest := pem.Decode(bytes.TrimSpace(key))
	switch {
	case block == nil || !bytes.HasPrefix(bytes.TrimSpace(key), []byte("-----BEGIN ")):
		return nil, errors.New("is not in PEM; " + cure)
	case len(bytes.TrimSpace(rest)) > 0:
		return nil, errors.New("is followed by something else; " + cure)
	}
	var public any
	var err error
	switch block.Type {
	case "PUBLIC KEY":
		public, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		public, err = x509.ParsePKCS1PublicKey(block.Bytes)
	default:
		return nil, fmt.Errorf("is a %s; %s", strings.ToLower(block.Type), cure)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %s; %s", problem.OneLine(err.Error()), cure)
	}
	algorithm := ""
	switch public := public.(type) {
	case *rsa.PublicKey:
		algorithm = "RS256"
	case *ecdsa.PublicKey:
		algorithm = map[string]string{"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}[public.Curve.Params().Name]
	}
	if algorithm == "" {
		return nil, errors.New("is of a kind that OPA does not sign bundles with; make an RSA key, or one on the curve P-256")
	}
	const id = "key"
	return bundle.NewVerificationConfig(map[string]*bundle.KeyConfig{id: {Key: string(pem.EncodeToMemory(block)), Algorithm: algorithm}}, id, "", nil), nil
}

// checkBundleFiles refuses files that OPA would heed and this package would not. The loader would
// pass over the names that begin with a dot.
func checkBundleFiles(files map[string][]byte) error {
	for _, name := range slices.Sorted(maps.Keys(files)) {
		base := path.Base(name)
		switch {
		case base == "patch.json":
			return fmt.Errorf("%s makes it a delta bundle, which changes another; build a whole one", name)
		case base == bundle.WasmFile, base == bundle.PlanFile, base == bundle.PlanProtoFile:
			return fmt.Errorf("%s is a compiled policy, which is not run; build it with the target rego", name)
		case base == bundle.ManifestProtoExt:
			return fmt.Errorf("%s is not read; write the manifest as JSON, in %s", name, manifestFile)
		case base != name && (base == manifestFile || base == signaturesFile):
			return fmt.Errorf("%s is in a folder, where it says nothing; pack the bundle from within the policy's folder", name)
		}
	}
	return nil
}

// readManifest returns the revision, and refuses a manifest that would change the meaning of the
// files.
func readManifest(files map[string][]byte) (string, error) {
	content, ok := files[manifestFile]
	if !ok {
		return "", nil
	}
	if !json.Valid(content) {
		return "", fmt.Errorf("%s is no JSON; correct it", manifestFile)
	}
	value, err := jsontree.ParseValue(content)
	if err != nil {
		return "", fmt.Errorf("%s: %s; correct it", manifestFile, problem.OneLine(err.Error()))
	}
	manifest, ok := value.(map[string]any)
	if !ok {
		return "", fmt.Errorf("%s holds %s, not an object; write {\"revision\": \"...\"}", manifestFile, jsontree.KindOf(value))
	}
	revision := ""
	for _, key := range slices.Sorted(maps.Keys(manifest)) {
		value, fits := manifest[key], true
		switch key {
		case "revision":
			revision, fits = value.(string)
			if !utf8.ValidString(revision) || strings.ContainsFunc(revision, func(r rune) bool { return !unicode.IsGraphic(r) }) || len(revision) > 200 {
				return "", fmt.Errorf("%s: the revision is no short line of text; write a version or a commit", manifestFile)
			}
		case "roots":
			var roots []string
			if roots, fits = stringList(value); fits {
				err = checkRoots(files, roots)
			}
		case "rego_version":
			if value != json.Number("1") {
				return "", fmt.Errorf("%s: rego_version is %v; write the rules in Rego v1 and set it to 1", manifestFile, value)
			}
		case "file_rego_versions":
			var versions map[string]any
			versions, fits = value.(map[string]any)
			for _, file := range slices.Sorted(maps.Keys(versions)) {
				if versions[file] != json.Number("1") {
					return "", fmt.Errorf("%s: file_rego_versions sets %q to %v; write it in Rego v1 and set it to 1", manifestFile, file, versions[file])
				}
			}
		case "wasm":
			var resolvers []any
			if resolvers, fits = value.([]any); len(resolvers) > 0 {
				return "", fmt.Errorf("%s: wasm replaces rules by a compiled policy, which is not run; build it with the target rego", manifestFile)
			}
		case "metadata":
			_, fits = value.(map[string]any)
		default:
			return "", fmt.Errorf("%s: %q is unknown; remove it", manifestFile, key)
		}
		if !fits {
			return "", fmt.Errorf("%s: %s may not be %s; correct or remove it", manifestFile, key, jsontree.KindOf(value))
		}
		if err != nil {
			return "", err
		}
	}
	return revision, nil
}

func stringList(value any) ([]string, bool) {
	items, ok := value.([]any)
	texts := make([]string, 0, len(items))
	for _, item := range items {
		text, isText := item.(string)
		ok = ok && isText
		texts = append(texts, strings.Trim(text, "/"))
	}
	return texts, ok
}

// checkRoots refuses rules and settings outside the manifest's roots: OPA would not take them for
// this bundle's.
func checkRoots(files map[string][]byte, roots []string) error {
	if slices.Contains(roots, "") {
		return nil
	}
	const cure = "correct the manifest's roots, or remove them"
	for _, name := range slices.Sorted(maps.Keys(files)) {
		var paths [][]string
		switch {
		case strings.HasSuffix(name, ".rego"):
			module, err := module.Parse(name, files[name])
			if err != nil {
				return err
			}
			parts := make([]string, 0, len(module.Package.Path))
			for _, term := range module.Package.Path[1:] {
				part, _ := term.Value.(ast.String)
				parts = append(parts, string(part))
			}
			paths = append(paths, parts)
		case bundle.IsStructuredDoc(name) && path.Base(name) != manifestFile:
			d, err := settings.ParseFile(name, name, files[name])
			if err != nil {
				return err
			}
			for key := range d.Site {
				paths = append(paths, []string{"site", key})
			}
		}
		for _, parts := range paths {
			if at := strings.Join(parts, "/"); !bundle.RootPathsContain(roots, at) {
				return fmt.Errorf("%s is at %s, outside the roots %q of its manifest; %s", name, at, roots, cure)
			}
		}
	}
	return nil
}
