package stopguard_test

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/stopguard/stopguard"
	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/policy"
)

// What libvirt does when it is asked to stop a domain, with the hook in this process.
func ExampleHandler() {
	xml, err := os.Open("cmd/stopguard-hook/testdata/web-01.xml")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer xml.Close()
	guard := stopguard.Handler(stopguard.Config{Root: "cmd/stopguard-hook/testdata/host"})
	args := []string{"/etc/libvirt/hooks/qemu", "web-01", "stop", "begin", "-"}
	fmt.Println("exit", hookproto.Run(context.Background(), args, xml, os.Stdout, guard))
	// Output:
	// exit 0
}

// A program that deletes domains asks first, and one that stops them likewise.
func ExampleDecide() {
	xml, err := os.ReadFile("cmd/stopguard-hook/testdata/pg-primary-01.xml")
	if err != nil {
		fmt.Println(err)
		return
	}
	domain, err := domainxml.Parse(xml)
	if err != nil {
		fmt.Println(err)
		return
	}
	decide := stopguard.Decide(stopguard.Config{Root: "cmd/stopguard-hook/testdata/host"})
	err = decide(context.Background(), stopguard.Request{Operation: policy.OperationDelete, Domain: domain})
	var veto *hookproto.Veto
	switch {
	case errors.As(err, &veto):
		fmt.Printf("refused by rule %s: %s\n", veto.Rule, veto.Reason)
	case err != nil:
		fmt.Println("no decision, so it is not deleted:", err)
	default:
		fmt.Println("it may be deleted")
	}
	// Output:
	// refused by rule protection_mark: protected until 2099-06-30: billing primary
}

// Before a button is offered, a program shows whether it would be refused, and takes no ticket.
func ExamplePreview() {
	xml, err := os.ReadFile("cmd/stopguard-hook/testdata/web-01.xml")
	if err != nil {
		fmt.Println(err)
		return
	}
	domain, err := domainxml.Parse(xml)
	if err != nil {
		fmt.Println(err)
		return
	}
	preview := stopguard.Preview(stopguard.Config{Root: "cmd/stopguard-hook/testdata/host"})
	err = preview(context.Background(), stopguard.Request{Operation: policy.OperationStop, Domain: domain})
	fmt.Println(err)
	// Output:
	// <nil>
}
