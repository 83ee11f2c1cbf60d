package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A dataFile is what one data.json or data.yaml sets.
type dataFile struct {
	name string
	site map[string]any // what it sets below data.site
}

// parseData reads a data file. A file in a folder sets what lies below that path, as in an OPA
// bundle; whatever it is, only data.site may be set.
func parseData(f siteFile) (*dataFile, error) {
	parse := parseYAML
	if strings.HasSuffix(f.rel, ".json") {
		parse = parseJSON
	}
	value, err := parse(f.content)
	if err != nil {
		return nil, fmt.Errorf("%s: %s; correct it", f.name, oneLine(err.Error()))
	}
	if dir := path.Dir(f.rel); dir != "." {
		parts := strings.Split(dir, "/")
		for i := len(parts) - 1; i >= 0; i-- {
			value = map[string]any{parts[i]: value}
		}
	}
	document, ok := value.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%s: holds %s, not an object; write {\"site\": {...}}", f.name, kindOf(value))
	}
	for key := range document {
		if key != "site" {
			return nil, fmt.Errorf("%s: sets data.%s, but settings are below data.site; move it there", f.name, key)
		}
	}
	site := map[string]any{}
	if value, ok := document["site"]; ok {
		if site, ok = value.(map[string]any); !ok {
			return nil, fmt.Errorf("%s: data.site is %s, not an object; write {\"site\": {...}}", f.name, kindOf(value))
		}
	}
	return &dataFile{name: f.name, site: site}, nil
}

// siteData is the content of data.site, merged from all data files.
type siteData struct {
	site  map[string]any
	files []*dataFile
}

// file returns the name of a file that sets the key.
func (d siteData) file(key string) string {
	for _, f := range d.files {
		if _, ok := f.site[key]; ok {
			return f.name
		}
	}
	return "data.site"
}

// mergeData joins what all files set. No path may be set twice.
func mergeData(files []*dataFile) (siteData, error) {
	merged := siteData{site: map[string]any{}, files: files}
	for _, f := range files {
		if at := merge(merged.site, f.site); at != "" {
			return siteData{}, fmt.Errorf("%s: data.site%s is set by another file already; set it in one of them", f.name, at)
		}
	}
	return merged, nil
}

// merge adds from to to and gives the path of the first conflict, such as ".calendar.days"; "" if
// there is none.
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

// parseJSON reads one JSON value as parseTree does.
func parseJSON(content []byte) (any, error) {
	root, err := parseTree(content)
	return root.plain(), err
}

// parseYAML reads one YAML document into the same types as parseJSON. A date stays the text that
// was written.
func parseYAML(content []byte) (any, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	var document yaml.Node
	if err := decoder.Decode(&document); err != nil {
		if errors.Is(err, io.EOF) {
			return map[string]any{}, nil // nothing but comments
		}
		return nil, err
	}
	if err := decoder.Decode(new(yaml.Node)); err != io.EOF {
		return nil, errors.New("holds more than one document")
	}
	return yamlValue(document.Content[0])
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
	yamlWord  = lazyRegexp(`^(?i:y|n|yes|no|on|off)$`)
	yamlOctal = lazyRegexp(`^[-+]?0(o[0-7_]+|[0-9_]+)$`)
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

func kindOf(value any) string {
	switch value.(type) {
	case nil:
		return "null"
	case bool:
		return "a boolean"
	case json.Number:
		return "a number"
	case string:
		return "a string"
	case []any:
		return "a list"
	}
	return "an object"
}
