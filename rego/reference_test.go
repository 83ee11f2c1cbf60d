package rego_test

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/opa/v1/ast"
	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "write docs/rules anew")

const pages = "../docs/rules"

// The reference is generated from each rule's metadata, so that it cannot differ from it. What a
// reader of the rule does not need is in a file of the rule's name beside it.
func TestTheReferenceOfEveryRuleIsUpToDate(t *testing.T) {
	want := map[string]string{}
	for name, module := range library(t) {
		rule, ok := strings.CutPrefix(module.Package.Path.String(), "data.stopguard.rules.")
		if ok && !strings.HasSuffix(name, "_test.rego") {
			details, err := os.ReadFile(filepath.Join(rule, rule+".md"))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
			want[rule+".md"] = page(name, module.Annotations[0], string(details), readSchema(t, rule))
		}
	}
	if *update {
		if err := os.MkdirAll(pages, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, text := range want {
			if err := os.WriteFile(filepath.Join(pages, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	got := map[string]string{}
	files, err := filepath.Glob(pages + "/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		got[filepath.Base(file)] = string(text)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("go test ./rego -update would change docs/rules:\n%s", diff)
	}
}

func page(file string, about *ast.Annotations, details string, settings *yaml.Node) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n%s\n\n", about.Title, strings.TrimSpace(about.Description))
	if details != "" {
		fmt.Fprintf(&b, "%s\n\n", strings.TrimSpace(details))
	}
	fmt.Fprintf(&b, "## Settings\n\n")
	if at(settings, "properties") == nil || len(at(settings, "properties").Content) == 0 {
		fmt.Fprintf(&b, "None. The rule is always on.\n\n")
	} else {
		if about.Custom["on"] == "always" {
			fmt.Fprintf(&b, "The rule is always on. %s\n\n", text(settings, "description"))
		} else {
			fmt.Fprintf(&b, "The rule is off until `data.site.%s` is set. %s\n\n", about.Title, text(settings, "description"))
		}
		writeSettings(&b, about.Title, settings)
	}
	fmt.Fprintf(&b, "[Source](../../rego/%s)\n", file)
	return b.String()
}

func writeSettings(b *strings.Builder, rule string, settings *yaml.Node) {
	fmt.Fprintf(b, "| setting | type | default | what it means |\n|---|---|---|---|\n")
	writeRows(b, "", settings)
	for i, d := range pairs(at(settings, "definitions")) {
		if i == 0 {
			fmt.Fprintln(b)
		}
		fmt.Fprintf(b, "- *%s*: %s\n", d.key, text(d.value, "description"))
	}
	fmt.Fprintf(b, "\n## Examples\n\nIn `/etc/stopguard/policy/data.yaml`:\n\n")
	for _, example := range nodes(at(settings, "examples")) {
		fmt.Fprintf(b, "```yaml\nsite:\n  %s:%s```\n\n", rule, indented(example))
	}
}

// writeRows writes a row for each property of an object, and below it those of its own properties.
func writeRows(b *strings.Builder, prefix string, object *yaml.Node) {
	required := at(object, "required")
	for _, p := range pairs(at(object, "properties")) {
		otherwise := ""
		switch value := at(p.value, "default"); {
		case value != nil:
			otherwise = "`" + inline(value) + "`"
		case required != nil && slices.ContainsFunc(required.Content, func(n *yaml.Node) bool { return n.Value == p.key }):
			otherwise = "required"
		}
		fmt.Fprintf(b, "| `%s%s` | %s | %s | %s |\n", prefix, p.key, kind(p.value), otherwise, text(p.value, "description"))
		if items := at(p.value, "items"); items != nil {
			writeRows(b, prefix+p.key+"[].", items)
		}
		writeRows(b, prefix+p.key+".", p.value)
	}
}

// kind returns the type of a setting in words.
func kind(schema *yaml.Node) string {
	if ref := text(schema, "$ref"); ref != "" {
		return "*" + strings.TrimPrefix(ref, "#/definitions/") + "*"
	}
	if values := at(schema, "enum"); values != nil {
		return strings.Trim(inline(values), "[]")
	}
	switch text(schema, "type") {
	case "array":
		return "list of " + kind(at(schema, "items"))
	case "integer":
		if least := text(schema, "minimum"); least != "" {
			return "whole number from " + least
		}
		return "whole number"
	case "string":
		return "text"
	case "object":
		return "object"
	}
	return text(schema, "type")
}

// inline writes a value on one line, as YAML has it.
func inline(value *yaml.Node) string {
	plain(value)
	if value.Kind != yaml.ScalarNode {
		value.Style = yaml.FlowStyle
	}
	out, err := yaml.Marshal(value)
	if err != nil {
		panic(err)
	}
	return strings.TrimSpace(string(out))
}

// indented writes an example below its rule's name. Lists of words stay on one line.
func indented(example *yaml.Node) string {
	if len(example.Content) == 0 {
		return " {}\n"
	}
	plain(example)
	var b strings.Builder
	encoder := yaml.NewEncoder(&b)
	encoder.SetIndent(2)
	if err := encoder.Encode(example); err != nil {
		panic(err)
	}
	return "\n    " + strings.ReplaceAll(strings.TrimSpace(b.String()), "\n", "\n    ") + "\n"
}

// plain writes a tree as people do. Times and dates stay in quotes, since some readers of YAML take
// 22:00 for a number.
func plain(node *yaml.Node) {
	node.Style = 0
	if node.Tag == "!!str" && strings.ContainsAny(node.Value[:1], "0123456789") {
		node.Style = yaml.DoubleQuotedStyle
	}
	if node.Kind == yaml.SequenceNode && !slices.ContainsFunc(node.Content, func(n *yaml.Node) bool { return n.Kind != yaml.ScalarNode }) {
		node.Style = yaml.FlowStyle
	}
	for _, child := range node.Content {
		plain(child)
	}
}

// readSchema reads a rule's schema as a tree that keeps the order in which it is written.
func readSchema(t *testing.T, rule string) *yaml.Node {
	t.Helper()
	var document yaml.Node
	if err := yaml.Unmarshal(schemaOf(t, rule), &document); err != nil {
		t.Fatal(err)
	}
	return document.Content[0]
}

type pair struct {
	key   string
	value *yaml.Node
}

func pairs(object *yaml.Node) []pair {
	var all []pair
	if object != nil && object.Kind == yaml.MappingNode {
		for i := 0; i < len(object.Content); i += 2 {
			all = append(all, pair{object.Content[i].Value, object.Content[i+1]})
		}
	}
	return all
}

func nodes(list *yaml.Node) []*yaml.Node {
	if list == nil {
		return nil
	}
	return list.Content
}

// at returns the value of a key; nil if there is none.
func at(object *yaml.Node, key string) *yaml.Node {
	for _, p := range pairs(object) {
		if p.key == key {
			return p.value
		}
	}
	return nil
}

func text(object *yaml.Node, key string) string {
	if value := at(object, key); value != nil {
		return value.Value
	}
	return ""
}
