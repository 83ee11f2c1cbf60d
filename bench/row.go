package main

import (
	"fmt"
	"slices"
	"time"
)

// A row compares stopguard with a yardstick that does the same job.
type row struct {
	name    string
	atMost  float64                                    // ours, as a multiple of theirs; 0 for no target
	measure func(n int) (ours, theirs cost, err error) // medians of n runs of each
}

// A cost is the cost of one run. 0 means not measured.
type cost struct {
	wall, cpu time.Duration // cpu is user and system time, of child processes too
	bytes     int64         // the most memory held at once
	count     int64         // allocations
}

// warmUp is the number of first runs of each that are not counted: only they find a cold page
// cache.
const warmUp = 5

// interleaved runs ours and theirs alternately, so that other load on the machine affects both, and
// returns the medians.
func interleaved(n int, ours, theirs func() (cost, error)) (cost, cost, error) {
	var a, b []cost
	for i := range n + warmUp {
		first, err := ours()
		if err != nil {
			return cost{}, cost{}, fmt.Errorf("ours: %w", err)
		}
		second, err := theirs()
		if err != nil {
			return cost{}, cost{}, fmt.Errorf("the yardstick: %w", err)
		}
		if i >= warmUp {
			a, b = append(a, first), append(b, second)
		}
	}
	return median(a), median(b), nil
}

// median takes each part's own median.
func median(costs []cost) cost {
	return cost{
		wall:  middle(costs, func(c cost) time.Duration { return c.wall }),
		cpu:   middle(costs, func(c cost) time.Duration { return c.cpu }),
		bytes: middle(costs, func(c cost) int64 { return c.bytes }),
		count: middle(costs, func(c cost) int64 { return c.count }),
	}
}

func middle[T time.Duration | int64](costs []cost, part func(cost) T) T {
	var all []T
	for _, c := range costs {
		all = append(all, part(c))
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// ratios returns ours as a multiple of theirs for each cost measured of both, wall time first.
func ratios(ours, theirs cost) []float64 {
	var all []float64
	for _, pair := range [][2]int64{
		{int64(ours.wall), int64(theirs.wall)},
		{int64(ours.cpu), int64(theirs.cpu)},
		{ours.bytes, theirs.bytes},
		{ours.count, theirs.count},
	} {
		if pair[0] > 0 && pair[1] > 0 {
			all = append(all, float64(pair[0])/float64(pair[1]))
		}
	}
	return all
}

func (c cost) String() string {
	switch {
	case c.count > 0:
		return fmt.Sprint(c.count)
	case c.bytes > 0:
		return fmt.Sprintf("%.1f MiB", float64(c.bytes)/(1<<20))
	case c.cpu > 0:
		return fmt.Sprintf("%s / %s", short(c.wall), short(c.cpu))
	}
	return short(c.wall)
}

func short(d time.Duration) string {
	if d < time.Millisecond {
		return fmt.Sprintf("%.1f us", float64(d)/float64(time.Microsecond))
	}
	return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond))
}
