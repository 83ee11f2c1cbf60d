//go:build e2e

package fleet

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stopguard/stopguard/internal/testhost"
)

// page is docs/fleet.md.
const page = "../../../docs/fleet.md"

// blocks returns the blocks of code of a section of the page, in its order.
func blocks(t *testing.T, section string) []string {
	t.Helper()
	content, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(content), "\n## "+section+"\n")
	if !ok {
		t.Fatalf("%s has no section %q", page, section)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	var found []string
	for _, m := range regexp.MustCompile("(?s)```(?:sh|yaml)\n(.*?)```").FindAllStringSubmatch(text, -1) {
		found = append(found, m[1])
	}
	return found
}

// An operator follows the page in a folder.
type operator struct {
	t   *testing.T
	dir string
}

// does runs commands as they are written, but for the folders. ok reports whether they succeeded.
func (o operator) does(commands string, env ...string) (output string, ok bool) {
	o.t.Helper()
	scripts, err := filepath.Abs(filepath.Dir(setup))
	if err != nil {
		o.t.Fatal(err)
	}
	cmd := exec.Command("sh", "-e")
	cmd.Dir, cmd.Stdin = o.dir, strings.NewReader(commands)
	cmd.Env = append(os.Environ(), append(env, "PATH="+scripts+":"+filepath.Dir(os.Getenv(toolProgram))+":"+os.Getenv("PATH"))...)
	content, err := cmd.CombinedOutput()
	return string(content), err == nil
}

func (o operator) must(commands string, env ...string) {
	o.t.Helper()
	if output, ok := o.does(commands, env...); !ok {
		o.t.Fatalf("%s\n%s", commands, output)
	}
}

// each returns the commands once for each of three machines, by replacing names of the first one.
func each(commands string, replace func(i int) []string) string {
	var all strings.Builder
	for i := range 3 {
		all.WriteString(strings.NewReplacer(replace(i)...).Replace(commands) + "\n")
	}
	return all.String()
}

// TestThePageIsFollowed runs the commands of docs/fleet.md in their order, on three machines.
func TestThePageIsFollowed(t *testing.T) {
	o := operator{t, t.TempDir()}
	set := blocks(t, "Set it up")
	if len(set) != 5 {
		t.Fatalf("the page has other steps: %q", set)
	}
	certificates, start, roles, configuration, look := set[0], set[1], set[2], set[3], set[4]

	// The certificates: the first line once, the others for each machine.
	lines := strings.Split(strings.TrimSpace(certificates), "\n")
	if len(lines) != 3 {
		t.Fatalf("%q", lines)
	}
	o.must(lines[0])
	o.must(each(lines[1], func(i int) []string { return []string{"etcd-1", etcdNames[i], "10.0.0.1", etcdAddress(i)} }))
	o.must(each(lines[2], func(i int) []string { return []string{"kvm-01", fmt.Sprintf("kvm-0%d", i+1)} }))

	// etcd, each in its network.
	initial := regexp.MustCompile(`--initial-cluster \S+`).FindString(start)
	for i, name := range etcdNames {
		folder := filepath.Join(o.dir, name)
		o.must(fmt.Sprintf("mkdir -p %s && cp pki/ca.crt pki/%s.crt pki/%s.key %s", folder, name, name, folder))
		command := strings.NewReplacer(
			initial, initial, "etcd-1", name, "10.0.0.1", etcdAddress(i), "/etc/etcd", folder, "/var/lib/etcd", folder,
		).Replace(start)
		log, err := os.Create(filepath.Join(o.dir, name+".log"))
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("ip", "netns", "exec", name, "sh", "-c", "exec "+command)
		cmd.Stdout, cmd.Stderr = log, log
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			if t.Failed() {
				content, _ := os.ReadFile(log.Name())
				t.Logf("%s:\n%s", name, content[max(0, len(content)-2000):])
			}
		})
	}
	eventually(t, "the roles are made", func() error {
		if output, ok := o.does(roles); !ok {
			return errors.New(output)
		}
		return nil
	})
	o.must(roles) // "run it again when a host is added"

	// The hosts: the files, the configuration, and the group that the page begins with.
	content, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	group := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindStringSubmatch(string(content))[1]
	c := &cluster{t: t, dir: o.dir}
	var hosts []*host
	for i := range 3 {
		name := fmt.Sprintf("kvm-0%d", i+1)
		h := c.prepareHost(agentProgram, name, group)
		etc := filepath.Join(h.root, "etc/stopguard")
		o.must(fmt.Sprintf("cp pki/ca.crt %s/ca.crt && cp pki/%s.crt %s/fleet.crt && cp pki/%s.key %s/fleet.key && chmod 600 %s/*.crt %s/fleet.key", etc, name, etc, name, etc, etc, etc))
		// The machine that the test runs on is all three hosts, and has one name.
		yaml := strings.NewReplacer("/etc/stopguard", etc, "  fleet:\n", "  fleet:\n    host: "+name+"\n").Replace(configuration)
		testhost.Put(t, h.root, "etc/stopguard/agent.yaml", yaml)
		h.begin()
		hosts = append(hosts, h)
	}
	guests := []*guest{newGuest("pg-1", uuidOf(1)), newGuest("pg-2", uuidOf(2)), newGuest("pg-3", uuidOf(3))}
	for i, g := range guests {
		if err := g.start(hosts[i]); err != nil {
			t.Fatal(err)
		}
		defer g.end(hosts[i])
	}
	for _, h := range hosts {
		eventually(t, look+" shows the fleet", func() error {
			output, ok := o.does(look, "STOPGUARD_ROOT="+h.root)
			if !ok || !strings.Contains(output, "pg-1 on kvm-01, pg-2 on kvm-02, pg-3 on kvm-03") {
				return errors.New(output)
			}
			return nil
		})
		h.isWell()
	}

	// The page promises these verdicts.
	if err := guests[2].askStop(hosts[2]); err != nil {
		t.Errorf("three run, and two must: %v", err)
	}
	guests[2].end(hosts[2])
	veto(t, hosts[0], guests[0], "group pg needs 2 running in the fleet, and stopping this one leaves 1 (pg-2 on kvm-02); start another first (rule min_running)")

	t.Run("a host is removed", func(t *testing.T) {
		o := operator{t, o.dir}
		eventually(t, "the reservation is over", func() error {
			if output, _ := o.does(look, "STOPGUARD_ROOT="+hosts[0].root); strings.Contains(output, "reserved in") {
				return errors.New(output)
			}
			return nil
		})
		hosts[2].kill()
		eventually(t, "its lease has ended", func() error {
			output, ok := o.does(look, "STOPGUARD_ROOT="+hosts[0].root)
			if ok || !strings.Contains(output, "the lease of kvm-03 has ended") {
				return errors.New(output)
			}
			return nil
		})
		commands := regexp.MustCompile("`(etcdctl [^`]*)`").FindAllStringSubmatch(string(content), -1)
		if len(commands) != 3 {
			t.Fatalf("the page has other commands: %q", commands)
		}
		const env = "ETCDCTL_API=3 ETCDCTL_ENDPOINTS=https://10.0.0.1:2379 ETCDCTL_CACERT=pki/ca.crt ETCDCTL_CERT=pki/root.crt ETCDCTL_KEY=pki/root.key"
		for _, m := range commands {
			o.must(strings.ReplaceAll(m[1], "HOST", "kvm-03"), strings.Fields(env)...)
		}
		eventually(t, "it is forgotten", func() error {
			output, _ := o.does(look, "STOPGUARD_ROOT="+hosts[0].root)
			if strings.Contains(output, "kvm-03") {
				return errors.New(output)
			}
			return nil
		})
		hosts[2].start()
		hosts[2].says("fleet-agent", "failure", "reading the fleet", "")
	})
}
