package settings

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"

	"github.com/stopguard/stopguard/internal/operation"
	"github.com/stopguard/stopguard/internal/problem"
	"github.com/stopguard/stopguard/policy/internal/jsontree"
	"github.com/stopguard/stopguard/policy/internal/library"
)

// A File is the content of one data.json or data.yaml.
type File struct {
	name string
	Site map[string]any // its settings below data.site
}

// ParseFile reads a data file. The content of a file in a folder lies below that path, as in an OPA
// bundle. Only data.site may be set.
//
// file is the file's path in its tree, and name is its name in errors.
func ParseFile(file, name string, content []byte) (*File, error) {
	parse := ParseYAML
	if strings.HasSuffix(file, ".json") {
		parse = jsontree.ParseValue
	}
	value, err := parse(content)
	if err != nil {
		what, cure := problem.Split(err)
		return nil, &problem.Error{What: name + ": " + problem.OneLine(what), Cure: cmp.Or(cure, "correct it"), Err: err}
	}
	if dir := path.Dir(file); dir != "." {
		parts := strings.Split(dir, "/")
		for i := len(parts) - 1; i >= 0; i-- {
			value = map[string]any{parts[i]: value}
		}
	}
	document, ok := value.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%s: holds %s, not an object; write {\"site\": {...}}", name, jsontree.KindOf(value))
	}
	for key := range document {
		if key != "site" {
			return nil, fmt.Errorf("%s: sets data.%s, but settings are below data.site; move it there", name, key)
		}
	}
	site := map[string]any{}
	if value, ok := document["site"]; ok {
		if site, ok = value.(map[string]any); !ok {
			return nil, fmt.Errorf("%s: data.site is %s, not an object; write {\"site\": {...}}", name, jsontree.KindOf(value))
		}
	}
	return &File{name: name, Site: site}, nil
}

// Data is the content of data.site, merged from all data files.
type Data struct {
	Site  map[string]any
	files []*File
}

// fileOf returns the name of a file that sets the key.
func (d Data) fileOf(key string) string {
	for _, f := range d.files {
		if _, ok := f.Site[key]; ok {
			return f.name
		}
	}
	return "data.site"
}

// Merge returns the settings of all files together. It is an error if two files set one path.
func Merge(files []*File) (Data, error) {
	merged := Data{Site: map[string]any{}, files: files}
	for _, f := range files {
		if at := merge(merged.Site, f.Site); at != "" {
			return Data{}, fmt.Errorf("%s: data.site%s is set by another file already; set it in one of them", f.name, at)
		}
	}
	return merged, nil
}

// merge adds from to to, and returns the path of the first conflict, such as ".calendar.days"; ""
// if they do not conflict.
func merge(to, from map[string]any) string {
	for key, value := range from {
		old, set := to[key]
		if !set {
			to[key] = clone(value)
			continue
		}
		a, isObject := old.(map[string]any)
		b, alsoObject := value.(map[string]any)
		if !isObject || !alsoObject {
			return "." + key
		}
		if at := merge(a, b); at != "" {
			return "." + key + at
		}
	}
	return ""
}

// clone copies the objects of value, so that merging changes no file's.
func clone(value any) any {
	object, ok := value.(map[string]any)
	if !ok {
		return value
	}
	copied := make(map[string]any, len(object))
	for key, item := range object {
		copied[key] = clone(item)
	}
	return copied
}

// ParseYAML reads one YAML document into the same types as [jsontree.ParseValue]. A date stays the
// text that was written.
func ParseYAML(content []byte) (any, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	var document yaml.Node
	if err := decoder.Decode(&document); err != nil {
		if errors.Is(err, io.EOF) {
			return map[string]any{}, nil // nothing but comments
		}
		return nil, yamlError(content, err)
	}
	if err := decoder.Decode(new(yaml.Node)); err != io.EOF {
		return nil, errors.New("holds more than one document")
	}
	return yamlValue(document.Content[0])
}

// yamlError names the tab that many editors put where YAML takes blanks alone. The parser says that
// a token cannot start there.
func yamlError(content []byte, err error) error {
	if !strings.Contains(err.Error(), "cannot start any token") && !strings.Contains(err.Error(), "a tab character") {
		return err
	}
	number := 0
	for line := range strings.Lines(string(content)) {
		number++
		if strings.HasPrefix(strings.TrimLeft(line, " "), "\t") && strings.TrimSpace(line) != "" {
			return &problem.Error{What: fmt.Sprintf("line %d: it is indented with a tab, which YAML does not allow", number), Cure: "indent with blanks", Err: err}
		}
	}
	return err
}

func yamlValue(node *yaml.Node) (any, error) {
	switch node.Kind {
	case yaml.SequenceNode:
		list := []any{}
		for _, item := range node.Content {
			value, err := yamlValue(item)
			if err != nil {
				return nil, err
			}
			list = append(list, value)
		}
		return list, nil
	case yaml.MappingNode:
		object := map[string]any{}
		for i := 0; i < len(node.Content); i += 2 {
			key, item := node.Content[i], node.Content[i+1]
			if key.Kind != yaml.ScalarNode || key.Tag == "!!merge" {
				return nil, fmt.Errorf("line %d: a key must be plain text", key.Line)
			}
			if _, twice := object[key.Value]; twice {
				return nil, fmt.Errorf("line %d: key %q is there twice", key.Line, key.Value)
			}
			value, err := yamlValue(item)
			if err != nil {
				return nil, err
			}
			object[key.Value] = value
		}
		return object, nil
	case yaml.ScalarNode:
		return yamlScalar(node)
	}
	return nil, fmt.Errorf("line %d: anchors and aliases are not read", node.Line) // they can grow without bound
}

// Words that are true or false to some readers of YAML and texts to others, and numbers that are
// octal to some.
var (
	yamlWord  = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^(?i:y|n|yes|no|on|off)$`) })
	yamlOctal = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[-+]?0(o[0-7_]+|[0-9_]+)$`) })
)

func yamlScalar(node *yaml.Node) (any, error) {
	const isExplicit = yaml.TaggedStyle | yaml.DoubleQuotedStyle | yaml.SingleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle
	if node.Style&isExplicit == 0 {
		switch {
		case yamlWord().MatchString(node.Value):
			return nil, fmt.Errorf("line %d: %s may mean a text or true or false; quote it, or write true or false", node.Line, node.Value)
		case yamlOctal().MatchString(node.Value):
			return nil, fmt.Errorf("line %d: %s may be an octal number, a decimal one or a text; quote it, or write the number without the 0", node.Line, node.Value)
		case node.Value == "" && node.Tag == "!!null":
			return nil, fmt.Errorf("line %d: there is a key without a value; write [], {}, \"\" or null", node.Line)
		}
	}
	switch node.Tag {
	case "!!str", "!!timestamp":
		return node.Value, nil
	case "!!null":
		return nil, nil
	case "!!bool", "!!int", "!!float":
		var value any
		if err := node.Decode(&value); err != nil {
			return nil, err
		}
		if truth, ok := value.(bool); ok {
			return truth, nil
		}
		number, err := json.Marshal(value)
		if err != nil {
			return nil, fmt.Errorf("line %d: %s is not a number that JSON has", node.Line, node.Value)
		}
		return json.Number(number), nil
	}
	return nil, fmt.Errorf("line %d: tag %s is not read", node.Line, node.Tag)
}

// Rename replaces the former name in the settings operations of the library's rules.
func Rename(site map[string]any) {
	for _, rule := range library.Rules() {
		settings, _ := site[rule].(map[string]any)
		named, ok := settings["operations"].([]any)
		if !ok {
			continue
		}
		var renamed []any
		for _, name := range named {
			text, isText := name.(string)
			if !isText {
				renamed = append(renamed, name)
				continue
			}
			for _, name := range operation.Expand(text) {
				renamed = append(renamed, name)
			}
		}
		settings["operations"] = renamed
	}
}

// At returns the setting at a path, or the constant above it where the path leads on.
func At(value any, path []string) any {
	for _, key := range path {
		object, ok := value.(map[string]any)
		if !ok {
			return value
		}
		value = object[key]
	}
	return value
}
