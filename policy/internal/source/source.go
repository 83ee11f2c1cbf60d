// Package source reads the files that an engine is compiled from: a site's rules and settings, and
// the modules of the rule library that they need.
package source

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stopguard/stopguard/internal/problem"
	"github.com/stopguard/stopguard/policy/internal/library"
	"github.com/stopguard/stopguard/policy/internal/module"
	"github.com/stopguard/stopguard/policy/internal/settings"
)

// A Source is everything that an engine is compiled from.
type Source struct {
	Library  map[string]*ast.Module // by file; only modules that are on, or imported
	Site     map[string]*ast.Module
	Mask     map[string]*ast.Module     // package system.log of the site
	Schemas  map[string]settings.Schema // of a rule's settings, by rule
	GoRules  []string                   // names of the rules written in Go
	Settings settings.Data
	Revision string // of the sites' files; "" without any
}

// A Tree is one tree of a site's rules and settings.
type Tree struct {
	FS       fs.FS
	Name     string // its name in errors; "" means "site"
	Revision string // "" means the SHA-256 over its sorted paths and contents
}

// maskPackage is the package of a site's mask.
const maskPackage = "system.log"

// Load reads and parses the files of all sites.
func Load(sites []Tree) (*Source, error) {
	src := &Source{Site: map[string]*ast.Module{}, Mask: map[string]*ast.Module{}, Schemas: map[string]settings.Schema{}}
	var revisions []string
	var data []*settings.File
	var errs []error
	for _, site := range sites {
		if site.Name == "" {
			site.Name = "site"
		}
		if site.FS == nil {
			return nil, fmt.Errorf("%s has no FS; give its tree, or leave the Site out", site.Name)
		}
		files, unread, err := siteFiles(site.FS, site.Name)
		if err != nil {
			return nil, err
		}
		if site.Revision == "" {
			site.Revision = Revision(files)
		}
		if site.Revision != "" {
			revisions = append(revisions, site.Revision)
		}
		more, err := src.addFiles(files)
		errs = append(errs, append(unread, err)...)
		data = append(data, more...)
	}
	src.Revision = strings.Join(revisions, "+")
	var err error
	src.Settings, err = settings.Merge(data)
	if err := problem.Join(append(errs, err)...); err != nil {
		return nil, err
	}
	settings.Rename(src.Settings.Site)
	return src, nil
}

// addFiles parses a site's files and returns those with settings, and the errors of all files.
func (src *Source) addFiles(files []File) ([]*settings.File, error) {
	var data []*settings.File
	var errs []error
	for _, f := range files {
		err := checkEncoding(f)
		switch {
		case err != nil:
		case f.kind == kindRule:
			err = src.addModule(f)
		case f.kind == kindTest:
			err = checkTestFile(f)
		case f.kind == kindSchema:
			err = src.addSchema(f)
		case f.kind == kindData:
			var d *settings.File
			if d, err = settings.ParseFile(f.Path, f.name, f.Content); err == nil {
				data = append(data, d)
			}
		}
		errs = append(errs, err)
	}
	return data, problem.Join(errs...)
}

// checkEncoding refuses a byte order mark, and characters that end a line in some editors and not
// in Rego. Otherwise the text behind such a character could be part of a comment.
func checkEncoding(f File) error {
	if f.kind == kindText {
		return nil
	}
	for _, mark := range []string{"\xef\xbb\xbf", "\xff\xfe", "\xfe\xff"} {
		if bytes.HasPrefix(f.Content, []byte(mark)) {
			return fmt.Errorf("%s begins with a byte order mark; save it as UTF-8 without one", f.name)
		}
	}
	if f.kind != kindRule && f.kind != kindTest {
		return nil
	}
	text := strings.ReplaceAll(string(f.Content), "\r\n", "\n")
	if at := strings.IndexAny(text, "\r\v\f\u0085\u2028\u2029"); at >= 0 {
		end, _ := utf8.DecodeRuneInString(text[at:])
		return fmt.Errorf("%s:%d: the line ends with %U, which ends no line in Rego; save it with line feeds", f.name, 1+strings.Count(text[:at], "\n"), end)
	}
	return nil
}

func (src *Source) addModule(f File) error {
	if _, twice := src.Site[f.name]; twice {
		return fmt.Errorf("%s is in two trees of one name; name them differently", f.name)
	}
	m, err := module.Parse(f.name, f.Content)
	if err != nil {
		return err
	}
	if module.PackageName(m) != maskPackage {
		src.Site[f.name] = m
		return nil
	}
	for other := range src.Mask {
		return fmt.Errorf("%s: package %s is in %s already; keep one of them", m.Package.Location, maskPackage, other)
	}
	src.Mask[f.name] = m
	return nil
}

func (src *Source) addSchema(f File) error {
	rule := strings.TrimSuffix(path.Base(f.Path), library.SchemaEnding)
	if library.IsRule(rule) {
		return fmt.Errorf("%s: rule %s is the library's, and so is its schema; remove the file", f.name, rule)
	}
	if other, twice := src.Schemas[rule]; twice {
		return fmt.Errorf("%s: rule %s has a schema in %s already; keep one of them", f.name, rule, other.Name)
	}
	s, err := settings.ParseSchema(f.name, f.Content)
	src.Schemas[rule] = s
	return err
}

// LibraryFiles returns the files of the library that every policy of the site needs: the rules that
// are on.
func (src *Source) LibraryFiles() []string {
	var names []string
	for _, rule := range library.AlwaysOn {
		names = append(names, library.File(rule))
	}
	for key := range src.Settings.Site {
		if library.IsRule(key) {
			names = append(names, library.File(key))
		}
	}
	return names
}

// AddLibrary parses files of the library, and the helpers that they or the site's rules import. A
// hook parses and compiles everything anew at each stop, so the rest is left where it is.
func (src *Source) AddLibrary(names []string) error {
	src.Library = map[string]*ast.Module{}
	for _, m := range src.Site {
		names = append(names, library.Helpers(m)...)
	}
	for len(names) > 0 {
		slices.Sort(names)
		modules, err := library.Parse(slices.Compact(names))
		if err != nil {
			return err
		}
		names = nil
		for _, m := range modules {
			src.Library[m.Package.Location.File] = m
		}
		for _, m := range modules {
			names = append(names, slices.DeleteFunc(library.Helpers(m), func(name string) bool { return src.Library[path.Join("rego", name)] != nil })...)
		}
	}
	return nil
}

// A File is a file of the site's folder.
type File struct {
	Path    string // its path in the folder
	name    string // what errors call it
	kind    fileKind
	Content []byte
}

type fileKind int

const (
	kindRule fileKind = iota
	kindTest
	kindData
	kindSchema
	kindText // for people
)

// siteFiles reads the site's folder. A file that it would have to ignore is unread, which is an
// error: a rule in freeze.rego.txt is not in force, and its author must learn that.
func siteFiles(fsys fs.FS, root string) (files []File, unread []error, err error) {
	err = fs.WalkDir(fsys, ".", func(rel string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if base := path.Base(rel); rel != "." && strings.HasPrefix(base, ".") {
			if entry.IsDir() {
				return fs.SkipDir
			}
			// An editor's lock is not a forgotten rule.
			if strings.HasSuffix(base, ".rego") && !strings.HasPrefix(base, ".#") {
				unread = append(unread, fmt.Errorf("%s begins with a dot and is not read; rename or remove it", path.Join(root, rel)))
			}
			return nil
		}
		if entry.IsDir() {
			return nil
		}
		f := File{Path: rel, name: path.Join(root, rel)}
		switch {
		case strings.HasSuffix(rel, "_test.rego"):
			f.kind = kindTest
		case strings.HasSuffix(rel, ".rego"):
			f.kind = kindRule
		case path.Base(rel) == "data.json", path.Base(rel) == "data.yaml":
			f.kind = kindData
		case strings.HasSuffix(rel, library.SchemaEnding):
			f.kind = kindSchema
		case strings.HasSuffix(rel, ".md"):
			f.kind = kindText
		default:
			unread = append(unread, fmt.Errorf("%s is neither *.rego, data.json, data.yaml, *.schema.json nor *.md, and would not be read; rename or remove it", f.name))
			return nil
		}
		if f.Content, err = fs.ReadFile(fsys, rel); err != nil {
			return err
		}
		files = append(files, f)
		return nil
	})
	if err != nil {
		var pathError *fs.PathError
		if errors.As(err, &pathError) {
			return nil, nil, fmt.Errorf("%s: %s: %w; make it readable", root, pathError.Path, pathError.Err)
		}
		return nil, nil, err
	}
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return files, unread, nil
}

// Revision is the SHA-256 over the sorted paths and contents, each preceded by its length so that
// no two folders can run into the same bytes.
func Revision(files []File) string {
	if len(files) == 0 {
		return ""
	}
	sum := sha256.New()
	for _, f := range files {
		fmt.Fprintf(sum, "%d %s\n%d ", len(f.Path), f.Path, len(f.Content))
		sum.Write(f.Content)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// checkTestFile refuses a *_test.rego file that holds anything but tests: it is not loaded, so a
// rule in it would not be in force.
func checkTestFile(f File) error {
	m, err := module.Parse(f.name, f.Content)
	if err != nil {
		return err
	}
	if !strings.HasSuffix(module.PackageName(m), "_test") {
		return fmt.Errorf("%s: package %s would not be loaded from a _test.rego file; name the package %s_test, or the file without _test",
			m.Package.Location, module.PackageName(m), module.PackageName(m))
	}
	return nil
}

// ReadSettings returns the settings below data.site in the data files of sites, as Load reads them.
// It does not check the settings against the rules.
func ReadSettings(sites []Tree) (map[string]any, error) {
	var data []*settings.File
	for _, site := range sites {
		files, unread, err := siteFiles(site.FS, cmp.Or(site.Name, "site"))
		if err := problem.Join(append(unread, err)...); err != nil {
			return nil, err
		}
		for _, f := range files {
			if f.kind != kindData {
				continue
			}
			d, err := settings.ParseFile(f.Path, f.name, f.Content)
			if err != nil {
				return nil, err
			}
			data = append(data, d)
		}
	}
	merged, err := settings.Merge(data)
	if err != nil {
		return nil, err
	}
	return merged.Site, nil
}

// HasOnlyAlwaysOn reports whether the site adds no rule to those that are always on, and configures
// none of the library's.
func (src *Source) HasOnlyAlwaysOn() bool {
	if len(src.Site) > 0 {
		return false
	}
	for key := range src.Settings.Site {
		if !slices.Contains(settings.Reserved, key) {
			return false
		}
	}
	return true
}
