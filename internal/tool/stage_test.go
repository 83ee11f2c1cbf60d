package tool

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

// stageRole has this test binary play another program. It is looked at before any test runs, as children must.
const stageRole = "STOPGUARD_TEST_STAGE"

func init() {
	switch os.Getenv(stageRole) {
	case "guest": // a domain's process: it does nothing, until the test ends
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	case "virsh":
		os.Exit(standIn(os.Args[1:]))
	case "tool":
		_ = os.Unsetenv(stageRole)
		os.Exit(Run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
}

// A stage is a host in a folder, on which the tool runs within the test, with real files and real processes.
type stage struct {
	t    testing.TB
	root string
}

func newStage(t testing.TB, files ...string) *stage {
	t.Helper()
	s := &stage{t: t, root: t.TempDir()}
	t.Setenv("STOPGUARD_ROOT", s.root)
	t.Setenv("SUDO_USER", "")
	s.folder("run/libvirt/qemu")
	for i := 0; i < len(files); i += 2 {
		s.put(files[i], files[i+1])
	}
	return s
}

func (s *stage) folder(name string) string {
	s.t.Helper()
	path := filepath.Join(s.root, name)
	if err := os.MkdirAll(path, 0o755); err != nil {
		s.t.Fatal(err)
	}
	return path
}

func (s *stage) put(name, content string) string {
	s.t.Helper()
	s.folder(filepath.Dir(name))
	path := filepath.Join(s.root, name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// process starts a child whose arguments hold the UUIDs, as a QEMU's hold its domain's.
func (s *stage) process(uuids ...string) *os.Process {
	s.t.Helper()
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.Command(self, uuids...)
	cmd.Env = append(os.Environ(), stageRole+"=guest")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd.Process
}

// status writes what libvirt keeps of a running domain.
func (s *stage) status(name string, pid int, status string) {
	s.t.Helper()
	s.put("run/libvirt/qemu/"+name+".pid", fmt.Sprintln(pid))
	s.put("run/libvirt/qemu/"+name+".xml", status)
}

const (
	uuid1 = "11111111-2b11-40de-a128-75e3f4a5fe11"
	uuid2 = "22222222-2b11-40de-a128-75e3f4a5fe22"
	uuid3 = "33333333-2b11-40de-a128-75e3f4a5fe33"

	farMark = `<p:protection xmlns:p="urn:stopguard:protection:1" reason="billing primary" until="2099-06-30"/>`
)

func domainXML(name, uuid, metadata string) string {
	return fmt.Sprintf("<domain type='kvm' id='7'><name>%s</name><uuid>%s</uuid><metadata>%s</metadata><memory unit='KiB'>1024</memory>"+
		"<devices><graphics type='vnc' passwd='hunter2x'/></devices></domain>", name, uuid, metadata)
}

// run starts a domain.
func (s *stage) run(name, uuid, metadata string) *os.Process {
	s.t.Helper()
	p := s.process("-name", name, "-uuid", uuid)
	s.rerun(p, name, uuid, metadata)
	return p
}

// rerun writes a running domain's status anew.
func (s *stage) rerun(p *os.Process, name, uuid, metadata string) {
	s.t.Helper()
	s.status(name, p.Pid, fmt.Sprintf("<domstatus state='running' reason='booted' pid='%d'>%s</domstatus>", p.Pid, domainXML(name, uuid, metadata)))
}

const captures = "../../testdata/captures/status/"

var (
	captureName = regexp.MustCompile(`<name>(st-[^<]*)</name>`)
	captureUUID = regexp.MustCompile(`<uuid>([^<]*)</uuid>`)
	capturePID  = regexp.MustCompile(`(<domstatus [^>]*pid=')[0-9]+'`)
)

// capture starts a domain with a status file of a real libvirt, and with a name and UUID of its own.
func (s *stage) capture(file string) (name string) {
	s.t.Helper()
	content, err := os.ReadFile(captures + file)
	if err != nil {
		s.t.Fatal(err)
	}
	text := string(content)
	name = "st-" + strings.TrimSuffix(file, ".xml")
	was := captureUUID.FindStringSubmatch(text)[1]
	uuid := fmt.Sprintf("%08x%s", crc32.ChecksumIEEE([]byte(name)), was[8:])
	text = strings.NewReplacer(captureName.FindStringSubmatch(text)[1], name, was, uuid).Replace(text)
	p := s.process(uuid)
	s.status(name, p.Pid, capturePID.ReplaceAllString(text, fmt.Sprintf("${1}%d'", p.Pid)))
	return name
}

// An exit is what became of a command.
type exit struct {
	Code           int
	Stdout, Stderr string
}

// tool runs the tool.
func (s *stage) tool(args ...string) exit {
	s.t.Helper()
	var stdout, stderr bytes.Buffer
	code := Run(context.Background(), args, strings.NewReader(""), &stdout, &stderr)
	got := exit{code, stdout.String(), stderr.String()}
	s.fit(got)
	return got
}

// fit holds what is so of all output: it can be shown on a terminal.
func (s *stage) fit(got exit) {
	s.t.Helper()
	for _, text := range []string{got.Stdout, got.Stderr} {
		for _, r := range text {
			if r != '\n' && r != '\t' && !unicode.IsPrint(r) {
				s.t.Errorf("%U is printed: %q", r, text)
				return
			}
		}
	}
}

// narrow fails if a line is wider than a terminal of 80 columns.
func narrow(t *testing.T, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		if n := textWidth(strings.TrimSuffix(line, "\n")); n > 80 {
			t.Errorf("%d columns: %q", n, line)
		}
	}
}

func want(t *testing.T, got exit, code int, stdout, stderr string) {
	t.Helper()
	if got.Code != code || got.Stdout != stdout || got.Stderr != stderr {
		t.Errorf("exit %d, stdout:\n%s\nstderr:\n%s\nwant %d, stdout:\n%s\nstderr:\n%s", got.Code, got.Stdout, got.Stderr, code, stdout, stderr)
	}
}

func holds(t *testing.T, what, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%s does not hold %q:\n%s", what, part, text)
		}
	}
}

func decode[T any](t *testing.T, text string) (v T) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v in:\n%s", err, text)
	}
	return v
}

var writeGoldens = flag.Bool("goldens", false, "write the golden files anew")

// golden compares text with a part of testdata/ARCHIVE.txtar.
func golden(t *testing.T, archive, name, text string) {
	t.Helper()
	path := filepath.Join("testdata", archive+".txtar")
	a, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(a.Files, func(f txtar.File) bool { return f.Name == name })
	if i < 0 {
		a.Files = append(a.Files, txtar.File{Name: name})
		i = len(a.Files) - 1
	}
	if *writeGoldens {
		a.Files[i].Data = []byte(text)
		if err := os.WriteFile(path, txtar.Format(a), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(a.Files[i].Data), text); diff != "" {
		t.Errorf("%s in %s (-want +got):\n%s", name, path, diff)
	}
}

// is fails unless the exit code is the wanted one.
func (e exit) is(t *testing.T, code int) exit {
	t.Helper()
	if e.Code != code {
		t.Errorf("exit %d, not %d; stderr: %s", e.Code, code, e.Stderr)
	}
	return e
}
