package ticket_test

import (
	"fmt"
	"os"
	"time"

	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/ticket"
)

// A ticket is good for one run of a domain, however often that is asked to stop.
func Example() {
	root, err := os.MkdirTemp("", "host") // the zero Store is the host itself
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(root)
	tickets := ticket.Store{Root: root}

	now := time.Now()
	_, err = tickets.Grant(ticket.Ticket{
		Domain:    "0f3c8a52-6d0e-4c1b-9a77-3b2f4de81c05",
		Operation: policy.OperationStop,
		Reason:    "disk swap",
		Requester: "kim",
		NotAfter:  now.Add(10 * time.Minute),
	}, now)
	if err != nil {
		panic(err)
	}

	stop := func(pid int, start uint64) {
		in := policy.Incarnation{UUID: "0f3c8a52-6d0e-4c1b-9a77-3b2f4de81c05", PID: pid, Start: start}
		t, ok, reports := tickets.Take(in, "pg-primary-01", policy.OperationStop, time.Now())
		fmt.Println(pid, ok, t.Reason, len(reports))
	}
	stop(4711, 99_000)
	stop(4711, 99_000) // once more, harder
	stop(4812, 99_800) // the next run
	// Output:
	// 4711 true disk swap 0
	// 4711 true disk swap 0
	// 4812 false  0
}
