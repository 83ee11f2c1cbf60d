//go:build e2e

package fleet

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// The three etcds live in network namespaces of their own, with the addresses of docs/fleet.md.
// They are ports of a bridge; hosts and clients are at the bridge itself.
var etcdNames = []string{"etcd-1", "etcd-2", "etcd-3"}

func etcdAddress(i int) string { return fmt.Sprintf("10.0.0.%d", i+1) }

// insideVariable is set in the process that runs the tests: it has a network and mounts of its own,
// which end with it.
const insideVariable = "STOPGUARD_E2E_FLEET_INSIDE"

func TestMain(m *testing.M) {
	if os.Getenv(insideVariable) != "" {
		if err := makeNetwork(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	runtime.LockOSThread() // a child ends with the thread that started it
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideVariable+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		fmt.Fprintln(os.Stderr, err, "(it must run as root)")
		os.Exit(1)
	}
	os.Exit(cmd.ProcessState.ExitCode())
}

func makeNetwork() error {
	commands := []string{
		"mkdir -p /run/netns", "mount -t tmpfs tmpfs /run/netns", "ip link set lo up",
		"ip link add fleet type bridge", "ip address add 10.0.0.254/24 dev fleet", "ip link set fleet up",
	}
	for i, name := range etcdNames {
		commands = append(commands,
			"ip netns add "+name,
			"ip link add "+name+" type veth peer name eth0 netns "+name, "ip link set "+name+" master fleet up",
			"ip -n "+name+" address add "+etcdAddress(i)+"/24 dev eth0", "ip -n "+name+" link set eth0 up", "ip -n "+name+" link set lo up",
		)
	}
	for _, command := range commands {
		if err := execute(command); err != nil {
			return err
		}
	}
	return nil
}

func execute(command string) error {
	args := strings.Fields(command)
	if output, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", command, err, output)
	}
	return nil
}

// cut cuts an etcd off from everything, or joins it again. Its packets are lost without a word.
func (n *node) cut(is bool) {
	state := "3" // forwarding
	if is {
		state = "0"
	}
	n.set("state " + state)
}

// isolate cuts an etcd off from all others that are isolated, but not from hosts, or ends that.
func (n *node) isolate(is bool) {
	n.set("isolated " + map[bool]string{true: "on", false: "off"}[is])
}

func (n *node) set(what string) {
	if err := execute("bridge link set dev " + n.name + " " + what); err != nil {
		n.t.Error(err)
	}
}

func TestANodeThatIsCutOffIsCutOff(t *testing.T) {
	c := newCluster(t, "kvm-1")
	one := c.join("kvm-1", "a")
	one.has(domain(1))
	sees(t, one, "pg-1@kvm-1")
	fails := func(why string) {
		t.Helper()
		eventually(t, why, func() error {
			if _, err := one.View(limited(t), []string{group}); err == nil {
				return errors.New("it answers")
			}
			return nil
		})
	}
	t.Run("one of three", func(t *testing.T) {
		c.nodes[0].cut(true)
		view(t, one)
		c.nodes[0].cut(false)
	})
	t.Run("two of three", func(t *testing.T) {
		c.nodes[0].cut(true)
		c.nodes[1].cut(true)
		fails("no quorum")
		c.nodes[0].cut(false)
		c.nodes[1].cut(false)
		sees(t, one, "pg-1@kvm-1")
	})
	t.Run("all from each other", func(t *testing.T) {
		for _, n := range c.nodes {
			n.isolate(true)
		}
		fails("no quorum, and all answer")
		for _, n := range c.nodes {
			n.isolate(false)
		}
		sees(t, one, "pg-1@kvm-1")
	})
}
