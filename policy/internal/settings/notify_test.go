package settings

import (
	"strings"
	"testing"

	"github.com/stopguard/stopguard/policy/internal/jsontree"
)

func TestNotifyIsReadStrictly(t *testing.T) {
	for settings, want := range map[string]string{
		`{"program": "/usr/local/bin/tell", "user": "tell"}`: "",
		`[]`:                                    "is a list, not an object",
		`{}`:                                    "data.site.notify.program must be an absolute path",
		`{"program": 1, "user": "tell"}`:        "program must be an absolute path",
		`{"program": "tell", "user": "tell"}`:   "program must be an absolute path",
		`{"program": "/", "user": "tell"}`:      "program must be an absolute path",
		`{"program": "/a/../b", "user": "t"}`:   "program must be an absolute path",
		`{"program": "/b"}`:                     "data.site.notify.user must be the name",
		`{"program": "/b", "user": ""}`:         "user must be the name",
		`{"program": "/b", "user": "a:b"}`:      "user must be the name",
		`{"program": "/b", "user": 1000}`:       "user must be the name",
		`{"program": "/b", "user": "root"}`:     "user is root",
		`{"programme": "/b", "user": "tell"}`:   "data.site.notify.programme is unknown (these may be set: program, user)",
		`{"program": "/b", "usr": "tell"}`:      "data.site.notify.usr is unknown (these may be set: program, user); correct (user?) or remove it",
		`{"program": "/b", "user": "t", "x":1}`: "data.site.notify.x is unknown",
	} {
		value, err := jsontree.ParseValue([]byte(settings))
		if err != nil {
			t.Fatal(err)
		}
		n, err := readNotify(value)
		switch {
		case want == "" && (err != nil || n.Program != "/usr/local/bin/tell" || n.User != "tell"):
			t.Errorf("%s: %v, %v", settings, n, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %s", settings, err, want)
		}
	}
}
