package thinhook

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/stopguard/stopguard"
	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/hookproto/hooktest"
	"github.com/stopguard/stopguard/hookproto/remote"
	"github.com/stopguard/stopguard/hookproto/remote/serve"
	"github.com/stopguard/stopguard/policy/record"
)

type scenario struct {
	host  []string
	args  []string
	stdin string
	want  string
}

func scenarios(t *testing.T) map[string]scenario {
	t.Helper()
	files, err := filepath.Glob(repository + "testdata/scenarios/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d scenarios, %v", len(files), err)
	}
	all := map[string]scenario{}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var s scenario
		for _, f := range archive.Files {
			text := string(f.Data)
			if name, ok := strings.CutPrefix(f.Name, "host/"); ok {
				s.host = append(s.host, name, text)
			}
			switch f.Name {
			case "argv":
				s.args = strings.Split(strings.TrimSuffix(text, "\n"), "\n")
			case "stdin":
				s.stdin = text
			case "stdin-file":
				s.stdin = string(read(t, repository+strings.TrimSpace(text)))
			case "want":
				s.want = text
			}
		}
		name := strings.TrimSuffix(filepath.Base(file), ".txtar")
		if strings.HasPrefix(name, "fleet-") {
			continue // the agent here is in no fleet; TestAThinHookDecidesWhileANodeHangs asks one that is
		}
		all[name] = s
	}
	return all
}

// Promise 8: exit code, text and record are those of the full hook, whichever program answers.
func TestPromise8_the_thin_hook_answers_as_the_full_one(t *testing.T) {
	requests := 0
	check := func(name string, s scenario) {
		t.Run(name, func(t *testing.T) {
			root := newHost(t, s.host...)
			want := ask(t, root, full, s.stdin, s.args...)
			recorded := records(t, root)
			if s.want != "" && want != s.want {
				t.Errorf("the full hook itself:\n%s", cmp.Diff(s.want, want))
			}
			for _, tt := range []struct {
				why, program string
				agent        bool
			}{
				{"without an agent", thin, false},
				{"with one", thin, true},
				{"with one, by the front", front, true},
			} {
				t.Run(tt.why, func(t *testing.T) {
					if tt.program == front && os.Geteuid() != 0 {
						t.Skip("the front lets every stop of another user's session daemon go")
					}
					root := newHost(t, s.host...)
					if tt.agent {
						n := withAgent(t, root)
						defer func() { requests += n() }()
					}
					if diff := cmp.Diff(want, ask(t, root, tt.program, s.stdin, s.args...)); diff != "" {
						t.Error(diff)
					}
					if diff := cmp.Diff(recorded, records(t, root)); diff != "" {
						t.Errorf("another record:\n%s", diff)
					}
				})
			}
		})
	}
	all := scenarios(t)
	if testing.Short() {
		for _, name := range []string{"mark", "nothing-protects-it", "moot-no-pid-file", "fault-list-is-not-text", "no-harm-reconnect"} {
			if _, ok := all[name]; !ok {
				t.Fatalf("there is no scenario %s", name)
			}
			check(name, all[name])
		}
		if requests == 0 {
			t.Error("the agent was not asked")
		}
		return
	}
	for name, s := range all {
		check(name, s)
	}
	dead := []string{"run/libvirt/qemu/other.pid", "1"}
	listed := []string{"etc/libvirt/protected-domains", "*-vm\nweb-*\n"}
	for _, tree := range []string{"domainxml/testdata/corpus", "testdata/captures"} {
		_ = filepath.WalkDir(repository+tree, func(file string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(file, ".xml") {
				return err
			}
			domain, err := domainxml.Parse(read(t, file))
			if err != nil {
				return nil
			}
			name := strings.TrimPrefix(file, repository)
			args := []string{domain.Name, "stop", "begin", "-"}
			check(name, scenario{host: listed, args: args, stdin: string(read(t, file))})
			check(name+", dead", scenario{host: append(listed[:2:2], dead...), args: args, stdin: string(read(t, file))})
			return nil
		})
	}
	if requests < 50 {
		t.Errorf("the agent was asked %d times only", requests)
	}
}

func TestTheThinHookKeepsTheContract(t *testing.T) {
	for why, prepare := range map[string]func(root string){
		"without an agent": func(string) {},
		"with one":         func(root string) { withAgent(t, root) },
	} {
		if testing.Short() && why != "without an agent" {
			continue // hundreds of calls more; without an agent both programs are called
		}
		t.Run(why, func(t *testing.T) {
			t.Parallel() // most of it is waiting
			root := newHost(t, "etc/libvirt/protected-domains", "protected-vm\n")
			prepare(root)
			c := hooktest.Config{
				Env: []string{"STOPGUARD_ROOT=" + root},
				Break: func(t *testing.T) {
					list := filepath.Join(root, "etc/libvirt/protected-domains")
					if err := os.WriteFile(list, []byte("\xff\n"), 0o644); err != nil {
						t.Fatal(err)
					}
				},
			}
			if testing.Short() {
				c.Break = nil // the policy is read by the programs that answer, not by the thin one
			}
			hooktest.Binary(t, program(t, thin), c)
		})
	}
}

func TestTheDeadAreLetGoWithoutAnybodyBeingAsked(t *testing.T) {
	root := newHost(t, "run/libvirt/qemu/other.pid", "1\n", "etc/stopguard/policy/x.rego", "package")
	requests := withAgent(t, root)
	if got := askStop(t, root, thin); got != "exit 0\n" || requests() > 0 {
		t.Errorf("%s, asked %d times", got, requests())
	}
	if got := records(t, root); !strings.Contains(got, `"outcome":"moot"`) || !strings.Contains(got, "there is no pid file") {
		t.Error(got)
	}
	t.Run("nor is there a full hook", func(t *testing.T) {
		dir := t.TempDir()
		alone := filepath.Join(dir, thin)
		if err := os.WriteFile(alone, read(t, program(t, thin)), 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := command(t, root, thin, pgPrimary, "stop", "begin", "-")
		cmd.Path = alone
		cmd.Stdin = bytes.NewReader(read(t, pgCapture))
		if got := answer(t, cmd, root); got != "exit 0\n" {
			t.Error(got)
		}
	})
	t.Run("its XML comes late", func(t *testing.T) {
		cmd := command(t, root, thin, pgPrimary, "stop", "begin", "-")
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		defer r.Close()
		cmd.Stdin = r
		if got := answer(t, cmd, root); got != "exit 0\n" {
			t.Error(got)
		}
	})
}

// With any fault of the agent, the answer is the same as without an agent.
func TestAnAgentThatGivesNoAnswerIsPassedOver(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long")
	}
	accept := func(answer func(net.Conn)) func(*testing.T, string) {
		return func(t *testing.T, root string) {
			l := listen(t, root)
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					go answer(c)
				}
			}()
		}
	}
	allows := "HTTP/1.1 200 OK\r\nContent-Length: 19\r\n\r\n{\"outcome\":\"allow\"}"
	spoiled := func(spoil func(socket string) error) func(*testing.T, string) {
		return func(t *testing.T, root string) {
			accept(func(c net.Conn) { _, _ = io.WriteString(c, allows) })(t, root)
			if err := spoil(filepath.Join(root, remote.Socket)); err != nil {
				if os.Geteuid() != 0 && errors.Is(err, fs.ErrPermission) {
					t.Skip("only root gives a file to another user")
				}
				t.Fatal(err)
			}
		}
	}
	t.Run("the answer that would be believed is one", func(t *testing.T) {
		root := newHost(t)
		spoiled(func(string) error { return nil })(t, root)
		if got := askStop(t, root, thin); got != "exit 0\n" {
			t.Fatal(got)
		}
	})
	for _, tt := range []struct {
		why   string
		agent func(*testing.T, string)
	}{
		{"it never answers", accept(func(net.Conn) {})},
		{"it never accepts", func(t *testing.T, root string) { listen(t, root) }},
		{"it hangs up", accept(func(c net.Conn) { _ = c.Close() })},
		{"it answers garbage", accept(func(c net.Conn) { _, _ = io.WriteString(c, strings.Repeat("\x00\xff", 1<<20)); _ = c.Close() })},
		{"it answers after 400 ms", accept(func(c net.Conn) { time.Sleep(400 * time.Millisecond); _, _ = io.WriteString(c, allows) })},
		{"it answers half", accept(func(c net.Conn) { _, _ = io.WriteString(c, allows[:len(allows)-1]) })},
		{"it takes a living guest for gone, as in another PID namespace", accept(func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\n{\"outcome\":\"moot\"}")
		})},
		{"it says that there is no such thing", accept(func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n") })},
		{"its socket is another user's", spoiled(func(socket string) error { return os.Chown(socket, 65534, -1) })},
		{"its socket is everybody's", spoiled(func(socket string) error { return os.Chmod(socket, 0o666) })},
		{"its folder is everybody's", spoiled(func(socket string) error { return os.Chmod(filepath.Dir(socket), 0o1777) })},
		{"its socket is a link", spoiled(func(socket string) error {
			return errors.Join(os.Rename(socket, socket+".real"), os.Symlink(socket+".real", socket))
		})},
		{"it was killed before, and its socket is left", func(t *testing.T, root string) {
			cmd, _ := startAgent(t, root, nil)
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}},
		{"it is another user's process, with root's socket", func(t *testing.T, root string) {
			if os.Geteuid() != 0 {
				t.Skip("only root starts a process of another user")
			}
			startAgent(t, root, &syscall.Credential{Uid: 65534, Gid: 65534})
			socket := filepath.Join(root, remote.Socket)
			if err := errors.Join(os.Chown(socket, 0, 0), os.Chown(filepath.Dir(socket), 0, 0), os.Chown(root, 0, 0)); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(tt.why, func(t *testing.T) {
			root := newHost(t)
			tt.agent(t, root)
			if diff := cmp.Diff(pgVeto, askStop(t, root, thin)); diff != "" {
				t.Error(diff)
			}
			if got := records(t, root); strings.Count(got, "\n") != 1 || !strings.Contains(got, `"outcome":"veto"`) {
				t.Error(got)
			}
		})
	}
	t.Run("it is killed while it is asked", func(t *testing.T) {
		root := newHost(t)
		agent, said := startAgent(t, root, nil)
		cmd := command(t, root, thin, pgPrimary, "stop", "begin", "-")
		cmd.Stdin = bytes.NewReader(read(t, pgCapture))
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if line, err := said.ReadString('\n'); line != "asked\n" {
			t.Fatal(line, err)
		}
		_ = agent.Process.Kill()
		if diff := cmp.Diff(pgVeto, ended(t, cmd, root)); diff != "" {
			t.Error(diff)
		}
	})
}

func TestWithoutTheFullHookThereIsAFaultThatIsRecorded(t *testing.T) {
	root := newHost(t)
	alone := filepath.Join(root, thin)
	if err := os.WriteFile(alone, read(t, program(t, thin)), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := command(t, root, thin, pgPrimary, "stop", "begin", "-")
	cmd.Path = alone
	cmd.Stdin = bytes.NewReader(read(t, pgCapture))
	want := "exit 2\nstopguard: fault: pg-primary-01: ROOT/stopguard-hook cannot be started: no such file or directory; install it again; " +
		"to switch the guard off: chmod -x /etc/libvirt/hooks/qemu.d/50-stopguard\n"
	if diff := cmp.Diff(want, answer(t, cmd, root)); diff != "" {
		t.Error(diff)
	}
	var e record.Event
	if err := json.Unmarshal(read(t, filepath.Join(root, record.File)), &e); err != nil || e.Result.Outcome != record.Fault || e.Result.Domain.Name != pgPrimary {
		t.Errorf("%v %+v", err, e)
	}
}

// Promise 5: an answer is late after the same time, whichever program gives it.
func TestPromise5_the_time_is_that_of_both_programs(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long")
	}
	t.Run("it is used up while the agent is asked", func(t *testing.T) {
		root := newHost(t)
		_, said := startAgent(t, root, nil)
		cmd := command(t, root, thin, pgPrimary, "stop", "begin", "-")
		cmd.Stdin = bytes.NewReader(read(t, pgCapture))
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		began := time.Now()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if line, err := said.ReadString('\n'); line != "asked\n" {
			t.Fatal(line, err)
		}
		if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2200*time.Millisecond - time.Since(began))
		if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		got := ended(t, cmd, root)
		// On a host under load the kernel's own bound comes first.
		if !strings.HasPrefix(got, "exit 2\nstopguard: fault: pg-primary-01: no decision within 2 s") && got != "exit -1\n" {
			t.Error(got)
		}
	})
	t.Run("it is used up by the XML", func(t *testing.T) {
		root := newHost(t)
		withAgent(t, root)
		cmd := command(t, root, thin, pgPrimary, "stop", "begin", "-")
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		defer r.Close()
		if _, err := io.WriteString(w, "<domain"); err != nil {
			t.Fatal(err)
		}
		cmd.Stdin = r
		if got := answer(t, cmd, root); !strings.HasPrefix(got, "exit 2\nstopguard: fault: pg-primary-01: ") {
			t.Error(got)
		}
	})
}

// A release is the agent's, or the full hook's, and looked at once.
func TestAReleaseIsLookedAtOnce(t *testing.T) {
	xml := string(read(t, repository+"testdata/captures/pg-primary-01/release/stdin.xml"))
	for why, prepare := range map[string]func(t *testing.T, root string){
		"without an agent": func(*testing.T, string) {},
		"with one":         func(t *testing.T, root string) { withAgent(t, root) },
		"with a slow one": func(t *testing.T, root string) {
			h := serve.Handler(stopguard.Handler(stopguard.Config{Root: root}))
			s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				time.Sleep(500 * time.Millisecond)
				h.ServeHTTP(w, r)
			})}
			l := listen(t, root)
			go func() { _ = s.Serve(l) }()
			t.Cleanup(func() { _ = s.Close() })
		},
	} {
		t.Run(why, func(t *testing.T) {
			root := newHost(t)
			prepare(t, root)
			if got := ask(t, root, thin, xml, pgPrimary, "release", "end", "crashed"); got != "exit 0\n" {
				t.Error(got)
			}
			if got := records(t, root); strings.Count(got, "\n") != 1 || !strings.Contains(got, `"outcome":"escape"`) {
				t.Error(got)
			}
		})
	}
}

// Each linked package costs time at each start, before any decision.
func TestTheThinHookLinksLittle(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "../../cmd/stopguard-hook-thin").Output()
	if err != nil {
		t.Fatal(err)
	}
	may := regexp.MustCompile(`^(vendor/.*|crypto/internal/entropy/.*|github\.com/(coreos/go-systemd/v22/journal|google/uuid|stopguard/stopguard/(hookproto|hookproto/remote|policy/record|internal/thinhook|cmd/stopguard-hook-thin)))$`)
	for dep := range strings.FieldsSeq(string(out)) {
		if dep == "net/http" || strings.Contains(dep, ".") && !may.MatchString(dep) {
			t.Errorf("it links %s", dep)
		}
	}
}

func TestADomainOfAnotherDriverIsNeverTakenForOneOfQEMU(t *testing.T) {
	for _, tt := range []struct {
		why, xml string
		want     bool
	}{
		{"as libvirt writes it", "<domain type='kvm' id='7'>", true},
		{"with other quotes, and further behind", "\n<domain\tid=\"7\"\r\n type=\"qemu\">", true},
		{"another driver's", "<domain type='lxc'>", false},
		{"no type", "<domain id='7'>", false},
		{"a type of something else", "<domain id='7'><x type='kvm'/>", false},
		{"a type in a value", "<domain id=\"type='kvm'\">", false},
		{"a type in a namespace", "<domain x:type='kvm'>", false},
		{"another element", "<domainx type='kvm'>", false},
		{"likewise", "<domstatus type='kvm'>", false},
		{"blanks around the sign, which the full hook reads", "<domain type = 'kvm'>", false},
		{"a reference", "<domain type='&#107;vm'>", false},
		{"a comment first", "<!-- <domain type='kvm'> --><domain type='lxc'>", false},
		{"cut off", "<domain type='kvm", false},
		{"cut off before", "<domain type=", false},
		{"no blank between attributes", "<domain id='7'type='kvm'>", false},
		{"nothing", "", false},
	} {
		t.Run(tt.why, func(t *testing.T) {
			if got := isTyped([]byte(tt.xml)); got != tt.want {
				t.Errorf("%v", got)
			}
		})
	}
}

// If isTyped accepts a document, a strict parser finds the same type or refuses the document.
func FuzzIsTyped(f *testing.F) {
	f.Add("<domain type='kvm' id='7'><name>a</name><uuid>16e14a01-2b11-40de-a128-75e3f4a5fe12</uuid></domain>")
	f.Add("<domain id=\"a='\" type='lxc'><name>type='qemu'</name><uuid>16e14a01-2b11-40de-a128-75e3f4a5fe12</uuid></domain>")
	f.Fuzz(func(t *testing.T, xml string) {
		domain, err := domainxml.Parse([]byte(xml))
		if err == nil && isTyped([]byte(xml)) && domain.Type != "qemu" && domain.Type != "kvm" {
			t.Fatalf("%q is of type %q", xml, domain.Type)
		}
	})
}
