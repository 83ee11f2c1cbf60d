package policy

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stopguard/stopguard/rego"
)

// A source is everything that an engine is compiled from.
type source struct {
	library  map[string]*ast.Module // by file; only what is on, or imported
	site     map[string]*ast.Module
	mask     map[string]*ast.Module // package system.log of the site
	schemas  map[string]schema      // of a rule's settings, by rule
	goRules  []string               // names of the rules written in Go
	settings siteData
	revision string // of the sites' files; "" without any
}

// loadSource reads and parses the files of all sites.
func loadSource(sites []Site) (*source, error) {
	src := &source{site: map[string]*ast.Module{}, mask: map[string]*ast.Module{}, schemas: map[string]schema{}}
	var revisions []string
	var data []*dataFile
	for _, site := range sites {
		if site.Name == "" {
			site.Name = "site"
		}
		if site.FS == nil {
			return nil, fmt.Errorf("%s has no FS; give its tree, or leave the Site out", site.Name)
		}
		files, err := siteFiles(site.FS, site.Name)
		if err != nil {
			return nil, err
		}
		if site.Revision == "" {
			site.Revision = revisionOf(files)
		}
		if site.Revision != "" {
			revisions = append(revisions, site.Revision)
		}
		more, err := src.addFiles(files)
		if err != nil {
			return nil, err
		}
		data = append(data, more...)
	}
	src.revision = strings.Join(revisions, "+")
	var err error
	if src.settings, err = mergeData(data); err != nil {
		return nil, err
	}
	renameInSettings(src.settings.site)
	return src, nil
}

// addFiles parses a site's files and gives those with settings.
func (src *source) addFiles(files []siteFile) ([]*dataFile, error) {
	var data []*dataFile
	for _, f := range files {
		if err := checkEncoding(f); err != nil {
			return nil, err
		}
		var err error
		switch f.kind {
		case kindRule:
			if _, twice := src.site[f.name]; twice {
				return nil, fmt.Errorf("%s is in two trees of one name; name them differently", f.name)
			}
			err = src.addModule(f)
		case kindTest:
			err = checkTestFile(f)
		case kindSchema:
			err = src.addSchema(f)
		case kindData:
			var d *dataFile
			d, err = parseData(f)
			data = append(data, d)
		}
		if err != nil {
			return nil, err
		}
	}
	return data, nil
}

// checkEncoding refuses a byte order mark, and what ends a line in some editors and none in Rego:
// behind a comment, all the rest of the file would be part of it.
func checkEncoding(f siteFile) error {
	if f.kind == kindText {
		return nil
	}
	for _, mark := range []string{"\xef\xbb\xbf", "\xff\xfe", "\xfe\xff"} {
		if bytes.HasPrefix(f.content, []byte(mark)) {
			return fmt.Errorf("%s begins with a byte order mark; save it as UTF-8 without one", f.name)
		}
	}
	if f.kind != kindRule && f.kind != kindTest {
		return nil
	}
	text := strings.ReplaceAll(string(f.content), "\r\n", "\n")
	if at := strings.IndexAny(text, "\r\v\f\u0085\u2028\u2029"); at >= 0 {
		end, _ := utf8.DecodeRuneInString(text[at:])
		return fmt.Errorf("%s:%d: the line ends with %U, which ends no line in Rego; save it with line feeds", f.name, 1+strings.Count(text[:at], "\n"), end)
	}
	return nil
}

func (src *source) addModule(f siteFile) error {
	module, err := parseModule(f.name, f.content)
	if err != nil {
		return err
	}
	if packageName(module) != maskPackage {
		src.site[f.name] = module
		return nil
	}
	for other := range src.mask {
		return fmt.Errorf("%s: package %s is in %s already; keep one of them", module.Package.Location, maskPackage, other)
	}
	src.mask[f.name] = module
	return nil
}

func (src *source) addSchema(f siteFile) error {
	rule := strings.TrimSuffix(path.Base(f.rel), schemaEnding)
	if isLibraryRule(rule) {
		return fmt.Errorf("%s: rule %s is the library's, and so is its schema; remove the file", f.name, rule)
	}
	if other, twice := src.schemas[rule]; twice {
		return fmt.Errorf("%s: rule %s has a schema in %s already; keep one of them", f.name, rule, other.name)
	}
	s, err := parseSchema(f.name, f.content)
	src.schemas[rule] = s
	return err
}

// alwaysOn are the rules of the library that are on without being configured: they only concern
// domains that the operator named.
var alwaysOn = []string{"protected_list", "protection_mark"}

// isLibraryRule reports whether the library has a rule of the name: each has a folder, with the
// schema of its settings.
func isLibraryRule(name string) bool {
	_, err := fs.Stat(rego.FS, path.Join(name, name+schemaEnding))
	return err == nil
}

// libraryRules returns the names of the library's rules, including those that are off.
func libraryRules() []string {
	entries, _ := fs.ReadDir(rego.FS, ".") // embedded, and there
	var names []string
	for _, entry := range entries {
		if isLibraryRule(entry.Name()) {
			names = append(names, entry.Name())
		}
	}
	return names
}

// libraryFiles returns the files of the library that every policy of the site needs: the rules that
// are on.
func (src *source) libraryFiles() []string {
	var names []string
	for _, rule := range alwaysOn {
		names = append(names, libraryFile(rule))
	}
	for key := range src.settings.site {
		if isLibraryRule(key) {
			names = append(names, libraryFile(key))
		}
	}
	return names
}

// addLibrary parses files of the library, and the helpers that they or the site's rules import. A
// hook parses and compiles everything anew at each stop, so the rest is left where it is.
func (src *source) addLibrary(names []string) error {
	src.library = map[string]*ast.Module{}
	for _, m := range src.site {
		names = append(names, helpersOf(m)...)
	}
	for len(names) > 0 {
		slices.Sort(names)
		modules, err := parseLibrary(slices.Compact(names))
		if err != nil {
			return err
		}
		names = nil
		for _, m := range modules {
			src.library[m.Package.Location.File] = m
		}
		for _, m := range modules {
			names = append(names, slices.DeleteFunc(helpersOf(m), func(name string) bool { return src.library[path.Join("rego", name)] != nil })...)
		}
	}
	return nil
}

func libraryFile(name string) string { return path.Join(name, name+".rego") }

// parseLibrary parses files of the library, all at once, and leaves out those that are not there:
// what nothing defines is refused when everything is compiled.
func parseLibrary(names []string) ([]*ast.Module, error) {
	modules, errs := make([]*ast.Module, len(names)), make([]error, len(names))
	var group sync.WaitGroup
	for i, name := range names {
		group.Go(func() {
			content, err := fs.ReadFile(rego.FS, name)
			if err == nil {
				modules[i], err = parse(path.Join("rego", name), content, false)
			}
			if !errors.Is(err, fs.ErrNotExist) {
				errs[i] = err
			}
		})
	}
	group.Wait()
	return slices.DeleteFunc(modules, func(m *ast.Module) bool { return m == nil }), errors.Join(errs...)
}

// helpersOf returns the files of the packages directly below stopguard that a module mentions.
func helpersOf(m *ast.Module) []string {
	var helpers []string
	ast.WalkRefs(m, func(ref ast.Ref) bool {
		if ref[0].Equal(ast.DefaultRootDocument) {
			if parts := constant(ref[1:]); len(parts) > 1 && parts[0] == "stopguard" && parts[1] != "rules" {
				helpers = append(helpers, libraryFile(parts[1]))
			}
		}
		return false
	})
	return helpers
}

// A siteFile is a file of the site's folder.
type siteFile struct {
	rel     string // its path in the folder
	name    string // what errors call it
	kind    fileKind
	content []byte
}

type fileKind int

const (
	kindRule fileKind = iota
	kindTest
	kindData
	kindSchema
	kindText // for people
)

// siteFiles reads the site's folder. A file that it would have to ignore is an error: a rule in
// freeze.rego.txt is not in force, and its author must learn that.
func siteFiles(fsys fs.FS, root string) ([]siteFile, error) {
	var files []siteFile
	err := fs.WalkDir(fsys, ".", func(rel string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if base := path.Base(rel); rel != "." && strings.HasPrefix(base, ".") {
			if entry.IsDir() {
				return fs.SkipDir
			}
			// An editor's lock is not a forgotten rule.
			if strings.HasSuffix(base, ".rego") && !strings.HasPrefix(base, ".#") {
				return fmt.Errorf("%s begins with a dot and is not read; rename or remove it", path.Join(root, rel))
			}
			return nil
		}
		if entry.IsDir() {
			return nil
		}
		f := siteFile{rel: rel, name: path.Join(root, rel)}
		switch {
		case strings.HasSuffix(rel, "_test.rego"):
			f.kind = kindTest
		case strings.HasSuffix(rel, ".rego"):
			f.kind = kindRule
		case path.Base(rel) == "data.json", path.Base(rel) == "data.yaml":
			f.kind = kindData
		case strings.HasSuffix(rel, schemaEnding):
			f.kind = kindSchema
		case strings.HasSuffix(rel, ".md"):
			f.kind = kindText
		default:
			return fmt.Errorf("%s is neither *.rego, data.json, data.yaml, *.schema.json nor *.md, and would not be read; rename or remove it", f.name)
		}
		if f.content, err = fs.ReadFile(fsys, rel); err != nil {
			return err
		}
		files = append(files, f)
		return nil
	})
	if err != nil {
		var pathError *fs.PathError
		if errors.As(err, &pathError) {
			return nil, fmt.Errorf("%s: %s: %w; make it readable", root, pathError.Path, pathError.Err)
		}
		return nil, err
	}
	slices.SortFunc(files, func(a, b siteFile) int { return strings.Compare(a.rel, b.rel) })
	return files, nil
}

// revisionOf is the SHA-256 over the sorted paths and contents, each preceded by its length so that
// no two folders can run into the same bytes.
func revisionOf(files []siteFile) string {
	if len(files) == 0 {
		return ""
	}
	sum := sha256.New()
	for _, f := range files {
		fmt.Fprintf(sum, "%d %s\n%d ", len(f.rel), f.rel, len(f.content))
		sum.Write(f.content)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// parseModule parses a module of a site.
func parseModule(name string, content []byte) (*ast.Module, error) { return parse(name, content, true) }

// parse parses a module. Reading its METADATA costs as much as the rest, and is for the checks of a
// site's.
func parse(name string, content []byte, metadata bool) (*ast.Module, error) {
	module, err := ast.ParseModuleWithOpts(name, string(content), ast.ParserOptions{
		Capabilities:      capabilities(),
		ProcessAnnotation: metadata,
		RegoVersion:       ast.RegoV1,
	})
	var single *ast.Error
	if errors.As(err, &single) && single.Message == "empty module" {
		return nil, fmt.Errorf("%s is empty, and protects nothing; write a rule in it or remove it", name)
	}
	if err != nil {
		return nil, regoError(err)
	}
	return module, nil
}

// checkTestFile refuses a *_test.rego file that holds anything but tests: it is not loaded, so a
// rule in it would not be in force.
func checkTestFile(f siteFile) error {
	module, err := parseModule(f.name, f.content)
	if err != nil {
		return err
	}
	if !strings.HasSuffix(packageName(module), "_test") {
		return fmt.Errorf("%s: package %s would not be loaded from a _test.rego file; name the package %s_test, or the file without _test",
			module.Package.Location, packageName(module), packageName(module))
	}
	return nil
}

// packageName returns a module's package as it is written, without data.
func packageName(m *ast.Module) string {
	return strings.TrimPrefix(m.Package.Path.String(), "data.")
}
