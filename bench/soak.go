package main

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/stopguard/stopguard/policy"
)

// soak decides a million times about twenty thousand domains while the policy is reloaded a
// thousand times, and prints the memory of the process. It takes minutes.
func soak() error {
	const decisions, reloads, steps = 1_000_000, 1_000, 10
	domains, err := warmDomains()
	if err != nil {
		return err
	}
	engine := atomic.Pointer[policy.Engine]{}
	document := different(domains[0].xml)
	start := time.Now()
	for n := range decisions {
		if n%(decisions/reloads) == 0 {
			e, err := policy.New(context.Background(), warmConfig())
			if err != nil {
				return err
			}
			engine.Store(e)
		}
		if _, err := askEngine(engine.Load(), document()); err != nil {
			return err
		}
		if (n+1)%(decisions/steps) == 0 {
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			fmt.Printf("%7d decisions, %4d reloads: heap %5.1f MiB, resident %5.1f MiB, %d goroutines, %.0f decisions/s\n", n+1, (n+1)*reloads/decisions,
				float64(m.HeapAlloc)/(1<<20), residentMiB(), runtime.NumGoroutine(), float64(n+1)/time.Since(start).Seconds())
		}
	}
	return nil
}

var residentLine = regexp.MustCompile(`(?m)^VmRSS:\s+(\d+) kB$`)

func residentMiB() float64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	match := residentLine.FindSubmatch(status)
	if match == nil {
		return 0
	}
	kib, _ := strconv.ParseFloat(string(match[1]), 64)
	return kib / 1024
}
