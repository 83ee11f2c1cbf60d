package hold_test

import (
	"fmt"
	"os"
	"time"

	"github.com/stopguard/stopguard/policy/hold"
)

// A backup holds its domain.
func Example() {
	root, err := os.MkdirTemp("", "host") // the zero Store is the host itself
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(root)
	holds := hold.Store{Root: root}
	const domain = "0f3c8a52-6d0e-4c1b-9a77-3b2f4de81c05"

	h, err := holds.Acquire(hold.Request{Domain: domain, Reason: "nightly backup", AtMost: 12 * time.Hour})
	if err != nil {
		panic(err)
	}
	during, _ := holds.Of(domain, time.Now())
	if err := h.Release(); err != nil {
		panic(err)
	}
	after, _ := holds.Of(domain, time.Now())
	fmt.Println(len(during), during[0].Reason, len(after))
	// Output: 1 nightly backup 0
}
