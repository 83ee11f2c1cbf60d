package policy_test

import (
	"context"
	"fmt"
	"time"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/policy"
)

const xml = `<domain type="kvm">
  <name>web-01</name>
  <uuid>16e14a01-2b11-40de-a128-75e3f4a5fe12</uuid>
</domain>`

// A program that is about to stop a domain asks first.
func ExampleEngine_Decide() {
	engine, err := policy.New(context.Background(), policy.Config{List: []byte("# the list\nweb-*\n")})
	if err != nil {
		fmt.Println(err)
		return
	}
	domain, err := domainxml.Parse([]byte(xml))
	if err != nil {
		fmt.Println(err)
		return
	}
	decision, err := engine.Decide(context.Background(), policy.Input{
		Operation: policy.OperationStop,
		Time:      time.Now(),
		Domain:    domain,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(decision.Outcome)
	for _, reason := range decision.Reasons {
		fmt.Println(reason.Message)
	}
	// Output:
	// veto
	// listed in /etc/libvirt/protected-domains as web-*; take it off the list to stop it
}
