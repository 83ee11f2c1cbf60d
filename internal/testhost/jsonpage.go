package testhost

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	nestedFields = regexp.MustCompile(`\([^)]*\)`)
	pageField    = regexp.MustCompile("`([a-z_]+)`(\\??)")
)

// CheckJSONPage compares the fields of a struct with the row of docs/json.md for its command, such
// as "doctor -o json": each field's name, and whether it may be absent.
func CheckJSONPage(t *testing.T, command string, v any) {
	t.Helper()
	_, file, _, _ := runtime.Caller(0)
	page, err := os.ReadFile(filepath.Join(filepath.Dir(file), "../../docs/json.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, row, ok := strings.Cut(string(page), "\n| `"+command+"` | ")
	if !ok {
		t.Fatalf("docs/json.md has no row for %s", command)
	}
	row, _, _ = strings.Cut(row, " |\n")
	row, _, _ = strings.Cut(row, "; with ")
	documented := map[string]bool{}
	for _, m := range pageField.FindAllStringSubmatch(nestedFields.ReplaceAllString(row, ""), -1) {
		documented[m[1]] = m[2] != ""
	}
	if diff := cmp.Diff(jsonFields(reflect.TypeOf(v)), documented); diff != "" {
		t.Errorf("docs/json.md, %s, whether a field may be absent (-program +document):\n%s", command, diff)
	}
}

// jsonFields returns the names under which encoding/json writes the fields of a struct, and whether
// each may be absent.
func jsonFields(of reflect.Type) map[string]bool {
	fields := map[string]bool{}
	for i := range of.NumField() {
		f := of.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && name == "" {
			for name, optional := range jsonFields(f.Type) {
				fields[name] = optional
			}
			continue
		}
		if name != "" && name != "-" {
			fields[name] = strings.Contains(options, "omitempty") || strings.Contains(options, "omitzero")
		}
	}
	return fields
}
