package record_test

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/stopguard/stopguard/policy/record"
)

func ExampleNew() {
	e := record.New("kvm-07", record.Domain{Name: "web-01"}, time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC))
	e.Result.Outcome = record.Allow
	result, err := json.Marshal(e.Result)
	fmt.Println(string(result), err)
	// Output:
	// {"outcome":"allow","domain":{"name":"web-01"},"reasons":[],"monitored":[]} <nil>
}
