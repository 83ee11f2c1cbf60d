// Bench measures the cost of stopguard, in multiples of that of a shell script or plain code for
// the same job on the same machine in the same run. See README.md beside it.
//
//	go run ./bench                 # every row
//	go run ./bench -rows cold      # those whose name matches
package main

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
)

func main() {
	match := flag.String("rows", "", "a regular expression: only rows whose name it matches")
	n := flag.Int("n", 100, "runs of each side that a median is taken of")
	long := flag.Bool("soak", false, "instead of the rows, print what a process holds over a million decisions and a thousand reloads")
	flag.Parse()
	if *long {
		if err := soak(); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	missed, err := run(*match, max(*n, 1))
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	if missed > 0 {
		fmt.Printf("\n%d missed\n", missed)
	}
}

// run prints a line for each row, and returns the number of rows that miss their target.
func run(match string, n int) (missed int, err error) {
	wanted, err := regexp.Compile(match)
	if err != nil {
		return 0, err
	}
	s, err := newStage()
	if err != nil {
		return 0, err
	}
	defer s.close()
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\tours\ttheirs\tratio\ttarget\t")
	warm, err := warmRows()
	if err != nil {
		return 0, err
	}
	for _, r := range slices.Concat(coldRows(s), thinRows(s), warm) {
		if !wanted.MatchString(r.name) {
			continue
		}
		ours, theirs, err := r.measure(n)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", r.name, err)
		}
		target, verdict, multiples := fmt.Sprintf("<= %.3g", r.atMost), "", []string{}
		if r.atMost == 0 {
			target = "none"
		}
		for _, ratio := range ratios(ours, theirs) {
			multiples = append(multiples, fmt.Sprintf("%.2f", ratio))
			if r.atMost > 0 && ratio > r.atMost {
				verdict = "missed"
			}
		}
		if verdict != "" {
			missed++
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", r.name, ours, theirs, strings.Join(multiples, " / "), target, verdict)
	}
	if err := table.Flush(); err != nil {
		return 0, err
	}
	return missed, gateRows(s, match, n)
}
