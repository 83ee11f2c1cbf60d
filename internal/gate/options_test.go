package gate

import (
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stopguard/stopguard/internal/gate/call"
	"github.com/stopguard/stopguard/internal/gate/wire"
	"github.com/stopguard/stopguard/internal/hostfile"
)

func writeOptions(t *testing.T, root, content string) {
	t.Helper()
	file := filepath.Join(root, optionsFile)
	must(t, os.MkdirAll(filepath.Dir(file), 0o755))
	must(t, os.WriteFile(file, []byte(content), 0o644))
}

func TestOptionsInAFileGoOverThoseOfTheCommandLine(t *testing.T) {
	for _, tt := range []struct {
		why, content  string
		metrics       string
		refuseUnknown bool
		says          string
	}{
		{"there is no file", "", "/a.prom", false, ""},
		{"there is nothing in it", "\n# refuse-unknown=true\n", "/a.prom", false, ""},
		{"all of them", "metrics=/b c=d.prom\n  refuse-unknown = true\n", "/b c=d.prom", true, ""},
		{"none, of what the unit has", "metrics=", "", false, ""},
		{"no value", "\nrefuse-unknown", "/a.prom", false, `gate.conf: line 2: "refuse-unknown" is no option; write NAME=VALUE`},
		{"a wrong value", "refuse-unknown=perhaps", "/a.prom", false, "gate.conf: line 1: "},
		{"a wrong name", "refuse-unknwon=true", "/a.prom", false, "no such flag -refuse-unknwon; -help lists what there is"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			root := t.TempDir()
			if tt.content != "" {
				writeOptions(t, root, tt.content)
			}
			flags := flag.NewFlagSet("", flag.ContinueOnError)
			metrics, refuse := flags.String("metrics", "", ""), flags.Bool("refuse-unknown", false, "")
			must(t, flags.Parse([]string{"-metrics", "/a.prom"}))
			err := readOptions(hostfile.Root(root), flags.Set)
			if tt.says == "" && err != nil || tt.says != "" && (err == nil || !strings.Contains(err.Error(), tt.says)) {
				t.Errorf("%v, want %q", err, tt.says)
			}
			if *metrics != tt.metrics || *refuse != tt.refuseUnknown {
				t.Errorf("%q, %v", *metrics, *refuse)
			}
		})
	}
}

func TestOptionsCanBeCheckedBeforeTheyCount(t *testing.T) {
	for _, tt := range []struct{ why, content, says string }{
		{"they are right", "refuse-unknown=true\n", ""},
		{"there are none", "", ""},
		{"one is wrong", "refuse-unknwon=true\n", "stopguard-gate: /etc/stopguard/gate.conf: line 1: no such flag -refuse-unknwon; -help lists what there is\n"},
		{"a gate that only checked would not serve", "check=true\n", "stopguard-gate: /etc/stopguard/gate.conf: line 1: -check is for the command line; -help lists what there is\n"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			root := t.TempDir()
			writeOptions(t, root, tt.content)
			cmd := exec.Command(os.Args[0], "-check")
			cmd.Env = append(os.Environ(), gateVariable+"=1", "STOPGUARD_ROOT="+root)
			said, err := cmd.CombinedOutput()
			if string(said) != tt.says || (err != nil) != (tt.says != "") {
				t.Errorf("%q, %v; want %q", said, err, tt.says)
			}
		})
	}
}

func TestOptionsThatOthersMayWriteAreNotBelieved(t *testing.T) {
	root := t.TempDir()
	writeOptions(t, root, "refuse-unknown=false\n")
	must(t, os.Chmod(filepath.Join(root, optionsFile), 0o666))
	if err := readOptions(hostfile.Root(root), func(string, string) error { return errors.New("it is read") }); err == nil || strings.Contains(err.Error(), "it is read") {
		t.Errorf("%v", err)
	}
}

func TestAReloadReadsTheOptionsAgain(t *testing.T) {
	p := start(t)
	client, daemon := p.connect()
	unknown := wire.Frame(wire.Header{Program: call.Remote, Version: 1, Procedure: 9999, Serial: 5}, nil)
	_, err := client.Write(unknown)
	must(t, err)
	p.arrives(daemon, unknown)

	writeOptions(t, p.dir, "refuse-unknown=true\nmatrics=/x\n")
	p.reload()
	p.says("cannot take over: exit status 1: stopguard-gate: /etc/stopguard/gate.conf: line 2: no such flag -matrics; -help lists what there is; correct what it says")
	p.works(client, daemon, 6)

	one, other := filepath.Join(p.dir, "one.prom"), filepath.Join(p.dir, "other.prom")
	for _, file := range []string{one, other} {
		writeOptions(t, p.dir, "refuse-unknown=true\nmetrics="+file+"\n")
		p.reload()
		p.says("took over from the program before")
		_, err = os.Stat(file)
		must(t, err)
	}
	if _, err := os.Stat(one); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("nobody keeps these metrics any more: %v", err)
	}
	_, err = client.Write(unknown)
	must(t, err)
	p.says("a call was refused")
}
