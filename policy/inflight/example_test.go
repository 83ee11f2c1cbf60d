package inflight_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/inflight"
)

// A program that decides takes the lock, counts without those about to end, adds the stop that it
// allows, and releases the lock. An entry is dropped once its process has ended: a process with
// this PID and start time does not exist any more.
func Example() {
	root, err := os.MkdirTemp("", "host") // "" is the host itself
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(root)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()

	stop := policy.Incarnation{UUID: "0f3c8a52-6d0e-4c1b-9a77-3b2f4de81c05", PID: os.Getpid(), Start: 1}
	for range 2 {
		ledger, err := inflight.Lock(ctx, root)
		if err != nil {
			panic(err)
		}
		fmt.Println("before:", ledger.Has(stop))
		if err := ledger.Add(stop); err != nil {
			panic(err)
		}
		fmt.Println("after:", ledger.Has(stop))
		if err := ledger.Close(); err != nil {
			panic(err)
		}
	}
	// Output:
	// before: false
	// after: true
	// before: false
	// after: true
}
