package library

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"github.com/stopguard/stopguard/rego"
)

// ElementDepth is the number of levels below an element that the type checker knows. Deeper
// elements are of any type: the checker does not notice a misspelt field of theirs.
const ElementDepth = 12

// TypeSchema is the input's schema for OPA's type checker. An element holds elements, and the
// checker goes on for ever when it compares such a type with itself (some mark in marks; mark in
// others), until the stack is full and the process ends. So the checker gets elements of a limited
// depth: element, element1, element2, ...
var TypeSchema = sync.OnceValues(func() (any, error) {
	const element, ref = "element", "#/definitions/element"
	content, err := rego.FS.ReadFile("input.schema.json")
	if err != nil {
		return nil, err
	}
	var schema map[string]any
	if err := json.Unmarshal(content, &schema); err != nil {
		return nil, fmt.Errorf("rego/input.schema.json: %w", err)
	}
	definitions, _ := schema["definitions"].(map[string]any)
	template, err := json.Marshal(definitions[element])
	if err != nil {
		return nil, err
	}
	for depth := range ElementDepth + 1 {
		children := fmt.Sprintf("{%q: \"%s%d\"}", "$ref", ref, depth+1)
		if depth == ElementDepth {
			children = "{}"
		}
		var limited any
		text := strings.ReplaceAll(string(template), fmt.Sprintf("{%q:%q}", "$ref", ref), children)
		if err := json.Unmarshal([]byte(text), &limited); err != nil {
			return nil, fmt.Errorf("rego/input.schema.json: its element: %w", err)
		}
		name := element
		if depth > 0 {
			name = fmt.Sprintf("%s%d", element, depth)
		}
		definitions[name] = limited
	}
	return schema, nil
})
