package tooltest

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
	"github.com/spf13/cobra"
	"golang.org/x/tools/txtar"

	"github.com/stopguard/stopguard/internal/terminal"
	"github.com/stopguard/stopguard/internal/tool/cli"
)

// stageRole is a variable that makes this test binary play another program. It is read before any
// test runs.
const stageRole = "STOPGUARD_TEST_STAGE"

func init() {
	switch os.Getenv(stageRole) {
	case "guest": // a domain's process: it does nothing, until the test ends
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	case "virsh":
		os.Exit(standIn(os.Args[1:]))
	}
}

// A Stage is a host in a folder, on which the tool runs within the test, with real files and real
// processes.
type Stage struct {
	T        testing.TB
	Root     string
	Commands []func() *cobra.Command // the tool's commands
}

// New creates a host with files, given as names and contents in turn.
func New(t testing.TB, commands []func() *cobra.Command, files ...string) *Stage {
	t.Helper()
	s := &Stage{T: t, Root: t.TempDir(), Commands: commands}
	t.Setenv("STOPGUARD_ROOT", s.Root)
	t.Setenv("SUDO_USER", "")
	s.Folder("run/libvirt/qemu")
	for i := 0; i < len(files); i += 2 {
		s.Put(files[i], files[i+1])
	}
	return s
}

func (s *Stage) Folder(name string) string {
	s.T.Helper()
	path := filepath.Join(s.Root, name)
	if err := os.MkdirAll(path, 0o755); err != nil {
		s.T.Fatal(err)
	}
	return path
}

func (s *Stage) Put(name, content string) string {
	s.T.Helper()
	s.Folder(filepath.Dir(name))
	path := filepath.Join(s.Root, name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		s.T.Fatal(err)
	}
	return path
}

// Process starts a child with the UUIDs among its arguments, like a QEMU with its domain's.
func (s *Stage) Process(uuids ...string) *os.Process {
	s.T.Helper()
	self, err := os.Executable()
	if err != nil {
		s.T.Fatal(err)
	}
	cmd := exec.Command(self, uuids...)
	cmd.Env = append(os.Environ(), stageRole+"=guest")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		s.T.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.T.Fatal(err)
	}
	s.T.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd.Process
}

// Status writes libvirt's files of a running domain.
func (s *Stage) Status(name string, pid int, status string) {
	s.T.Helper()
	s.Put("run/libvirt/qemu/"+name+".pid", fmt.Sprintln(pid))
	s.Put("run/libvirt/qemu/"+name+".xml", status)
}

const (
	UUID1 = "11111111-2b11-40de-a128-75e3f4a5fe11"
	UUID2 = "22222222-2b11-40de-a128-75e3f4a5fe22"
	UUID3 = "33333333-2b11-40de-a128-75e3f4a5fe33"

	FarMark = `<p:protection xmlns:p="urn:stopguard:protection:1" reason="billing primary" until="2099-06-30"/>`
)

func DomainXML(name, uuid, metadata string) string {
	return fmt.Sprintf("<domain type='kvm' id='7'><name>%s</name><uuid>%s</uuid><metadata>%s</metadata><memory unit='KiB'>1024</memory>"+
		"<devices><graphics type='vnc' passwd='hunter2x'/></devices></domain>", name, uuid, metadata)
}

// Run starts a domain.
func (s *Stage) Run(name, uuid, metadata string) *os.Process {
	s.T.Helper()
	p := s.Process("-name", name, "-uuid", uuid)
	s.Rerun(p, name, uuid, metadata)
	return p
}

// Rerun rewrites a running domain's status.
func (s *Stage) Rerun(p *os.Process, name, uuid, metadata string) {
	s.T.Helper()
	s.Status(name, p.Pid, fmt.Sprintf("<domstatus state='running' reason='booted' pid='%d'>%s</domstatus>", p.Pid, DomainXML(name, uuid, metadata)))
}

// Captures is the folder of status files that a real libvirt wrote, below the module's root.
var Captures = filepath.Join(moduleRoot(), "testdata/captures/status") + "/"

// moduleRoot returns the folder of go.mod; a test runs in its package's folder.
func moduleRoot() string {
	folder, err := os.Getwd()
	for err == nil && folder != "/" {
		if _, err := os.Stat(filepath.Join(folder, "go.mod")); err == nil {
			return folder
		}
		folder = filepath.Dir(folder)
	}
	panic("the test does not run within the module")
}

var (
	CaptureName = regexp.MustCompile(`<name>([^<]*)</name>`) // the domain's is the first
	CaptureUUID = regexp.MustCompile(`<uuid>([^<]*)</uuid>`)
	CapturePID  = regexp.MustCompile(`(<domstatus [^>]*pid=')[0-9]+'`)
)

// Capture starts a domain with a status file of a real libvirt, and with a unique name and UUID.
func (s *Stage) Capture(file string) (name string) {
	s.T.Helper()
	content, err := os.ReadFile(Captures + file)
	if err != nil {
		s.T.Fatal(err)
	}
	text := string(content)
	name = "st-" + strings.TrimSuffix(file, ".xml")
	was := CaptureUUID.FindStringSubmatch(text)[1]
	uuid := fmt.Sprintf("%08x%s", crc32.ChecksumIEEE([]byte(name)), was[8:])
	text = strings.NewReplacer(CaptureName.FindStringSubmatch(text)[1], name, was, uuid).Replace(text)
	p := s.Process(uuid)
	s.Status(name, p.Pid, CapturePID.ReplaceAllString(text, fmt.Sprintf("${1}%d'", p.Pid)))
	return name
}

// An exit is the result of a command.
type exit struct {
	Code           int
	Stdout, Stderr string
}

// Tool runs the tool.
func (s *Stage) Tool(args ...string) exit {
	s.T.Helper()
	var stdout, stderr bytes.Buffer
	code := s.RunTool(context.Background(), args, strings.NewReader(""), &stdout, &stderr)
	got := exit{code, stdout.String(), stderr.String()}
	s.fit(got)
	return got
}

// fit checks that a terminal can show the output.
func (s *Stage) fit(got exit) {
	s.T.Helper()
	for _, text := range []string{got.Stdout, got.Stderr} {
		for _, r := range text {
			if r != '\n' && r != '\t' && !unicode.IsPrint(r) {
				s.T.Errorf("%U is printed: %q", r, text)
				return
			}
		}
	}
}

// Narrow fails if a line is wider than a terminal of 80 columns.
func Narrow(t *testing.T, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		if n := terminal.TextWidth(strings.TrimSuffix(line, "\n")); n > 80 {
			t.Errorf("%d columns: %q", n, line)
		}
	}
}

func Want(t *testing.T, got exit, code int, stdout, stderr string) {
	t.Helper()
	if got.Code != code || got.Stdout != stdout || got.Stderr != stderr {
		t.Errorf("exit %d, stdout:\n%s\nstderr:\n%s\nwant %d, stdout:\n%s\nstderr:\n%s", got.Code, got.Stdout, got.Stderr, code, stdout, stderr)
	}
}

func Holds(t *testing.T, what, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%s does not hold %q:\n%s", what, part, text)
		}
	}
}

func Decode[T any](t *testing.T, text string) (v T) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v in:\n%s", err, text)
	}
	return v
}

var writeGoldens = flag.Bool("goldens", false, "write the golden files anew")

// Golden compares text with a part of testdata/ARCHIVE.txtar.
func Golden(t *testing.T, archive, name, text string) {
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

// Is fails unless the exit code is the wanted one.
func (e exit) Is(t *testing.T, code int) exit {
	t.Helper()
	if e.Code != code {
		t.Errorf("exit %d, not %d; stderr: %s", e.Code, code, e.Stderr)
	}
	return e
}

// RunTool runs a command line of the tool.
func (s *Stage) RunTool(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var commands []*cobra.Command
	for _, command := range s.Commands {
		commands = append(commands, command())
	}
	return cli.Run(ctx, cli.Root(commands...), args, stdin, stdout, stderr)
}
