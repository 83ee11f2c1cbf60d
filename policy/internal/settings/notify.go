package settings

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/stopguard/stopguard/internal/nearest"
	"github.com/stopguard/stopguard/policy/internal/jsontree"
)

// Notify is data.site.notify: the program that is told when protection goes.
type Notify struct {
	Program string // absolute path of the program
	User    string // name of the user that it runs as
}

var notifyFields = []string{"program", "user"}

// readNotify checks the form of the setting. Whether the host has the program and the user is for
// the host: a program that is missing must not refuse stops.
func readNotify(value any) (*Notify, error) {
	const at = "data.site." + notifyKey
	fields, ok := value.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%s is %s, not an object; write {...}", at, jsontree.KindOf(value))
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if !slices.Contains(notifyFields, name) {
			return nil, fmt.Errorf("%s.%s is unknown (these may be set: %s); correct%s or remove it", at, name, strings.Join(notifyFields, ", "), nearest.Hint(name, notifyFields))
		}
	}
	n := &Notify{}
	if n.Program, ok = fields["program"].(string); !ok || !path.IsAbs(n.Program) || path.Clean(n.Program) != n.Program || n.Program == "/" || strings.ContainsRune(n.Program, 0) {
		return nil, fmt.Errorf("%s.program must be an absolute path in its shortest form, without arguments; write the path of a program", at)
	}
	if n.User, ok = fields["user"].(string); !ok || n.User == "" || strings.ContainsAny(n.User, " :/\n\x00") {
		return nil, fmt.Errorf("%s.user must be the name of a user; name one without rights", at)
	}
	if n.User == "root" {
		return nil, fmt.Errorf("%s.user is root, and the program must have no rights of root's; name a user of its own", at)
	}
	return n, nil
}
