package host

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A systemctl that hangs, and whose child keeps its output open, is not waited for. The error names
// the command.
func TestASystemdThatHangsIsAnError(t *testing.T) {
	t.Parallel() // it waits
	program := filepath.Join(t.TempDir(), "systemctl")
	script := "#!/bin/sh\ncase $1 in show) echo answered;; fail) echo no such unit >&2; exit 5;; *) sleep 300;; esac\n"
	if err := os.WriteFile(program, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		limit     time.Duration
		command   string
		out, want string
	}{
		{time.Minute, "show --value", "answered", ""},
		{time.Minute, "fail x.service", "", "systemctl fail x.service: no such unit"},
		{50 * time.Millisecond, "restart x.service", "", "systemctl restart x.service: systemd did not answer within 50ms; "},
	} {
		out, err := runSystemctl(program, tt.limit, strings.Fields(tt.command)...)
		text := ""
		if err != nil {
			text = err.Error()
		}
		if out != tt.out || !strings.HasPrefix(text, tt.want) || (err == nil) != (tt.want == "") {
			t.Errorf("%s: %q, %v", tt.command, out, err)
		}
	}
}
