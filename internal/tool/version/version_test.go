package version

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stopguard/stopguard/internal/testhost"
)

func TestTheVersionNamesWhatIsInTheTool(t *testing.T) {
	run := func(args ...string) string {
		t.Helper()
		var out bytes.Buffer
		c := Command()
		c.SetArgs(args)
		c.SetOut(&out)
		c.SetErr(&out)
		if err := c.Execute(); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	for _, want := range []string{"stopguard     ", "\ngo            go1.", "\nopa           v1.", "\ninput schema  1\n", "\ngate's table  libvirt 12.8.0\n"} {
		if text := run(); !strings.Contains(text, want) {
			t.Errorf("it lacks %q:\n%s", want, text)
		}
	}
	var v versionJSON
	if err := json.Unmarshal([]byte(run("-o", "json")), &v); err != nil || v.Schema != 1 || !strings.HasPrefix(v.OPA, "v1.") {
		t.Errorf("%+v, %v", v, err)
	}
	testhost.CheckJSONPage(t, "version -o json", v)
	c := Command()
	c.SetArgs([]string{"-o", "yaml"})
	c.SetOut(&bytes.Buffer{})
	c.SetErr(&bytes.Buffer{})
	if err := c.Execute(); err == nil || !strings.Contains(err.Error(), "unknown") {
		t.Errorf("another format: %v", err)
	}
}
