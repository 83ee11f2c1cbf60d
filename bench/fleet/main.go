// Command fleet measures the cost of the groups of a fleet: of a decision, and of fleets of several
// sizes.
//
//	go run ./bench/fleet                   # both
//	go run ./bench/fleet -sizes ''         # decisions alone
//	go run ./bench/fleet -sizes 1000       # a fleet of 1,000 hosts, 10,000 members and 2,000 groups
//
// It starts an etcd of three members on loopback, with TLS and roles, and needs etcd, etcdctl and
// openssl. Run it as root in the repository's root folder. Hosts are simulated: each has a client
// of etcd of its own, a lease that it renews, its members, and a watch of all keys. Four of them
// are the agent's own code.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

func main() {
	sizes := flag.String("sizes", "100,300,1000", "hosts of each fleet; a host has 10 members, and 5 members are a group")
	rate := flag.Int("rate", 5, "members that start or end in a second, under load")
	n := flag.Int("n", 300, "decisions that a median is taken of")
	length := flag.Duration("for", 30*time.Second, "how long a fleet is watched")
	flag.Parse()
	if os.Getenv(insideVariable) == "" {
		os.Exit(inside())
	}
	if err := run(*sizes, *rate, max(*n, 100), *length); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// insideVariable is set in the process that measures. It has a network of its own, so that what the
// loopback interface carries is the fleet's.
const insideVariable = "STOPGUARD_BENCH_FLEET"

func inside() int {
	runtime.LockOSThread() // a child ends with the thread that started it
	cmd := exec.Command("sh", append([]string{"-c", `ip link set lo up && exec "$0" "$@"`, "/proc/self/exe"}, os.Args[1:]...)...)
	if program, err := os.Executable(); err == nil {
		cmd.Args[3] = program
	}
	cmd.Env = append(os.Environ(), insideVariable+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err, "(it must run as root)")
		return 1
	}
	return 0
}

func run(sizes string, rate, n int, length time.Duration) error {
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	if err := decisionRows(table, n); err != nil {
		return err
	}
	if err := table.Flush(); err != nil || sizes == "" {
		return err
	}
	fmt.Println()
	var results []result
	for text := range strings.SplitSeq(sizes, ",") {
		hosts, err := strconv.Atoi(text)
		if err != nil || hosts < 10 {
			return fmt.Errorf("%q is not a number of hosts of 10 or more", text)
		}
		r, err := measure(context.Background(), hosts, rate, n, length)
		if err != nil {
			return fmt.Errorf("%d hosts: %w", hosts, err)
		}
		results = append(results, r)
	}
	for _, line := range resultLines {
		fmt.Fprint(table, line.name)
		for _, r := range results {
			fmt.Fprintf(table, "\t%s", line.value(r))
		}
		fmt.Fprintln(table, "\t")
	}
	return table.Flush()
}
