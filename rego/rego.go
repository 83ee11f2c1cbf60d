// Package rego holds stopguard's rule library: the entrypoint, one folder a rule with its tests
// beside it, shared functions, and the schema of the input that every rule may read.
package rego

import "embed"

// FS holds every file of the library, tests included, by its path below this folder. The schema of
// the policy input, version 1, is input.schema.json.
//
//go:embed *.rego *.json */*.rego */*.json
var FS embed.FS
