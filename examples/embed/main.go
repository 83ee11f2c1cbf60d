// Embed evaluates this host's policy before it stops a domain: virsh dumpxml NAME | embed.
//
// It exits with 0 after it has stopped the domain, and with 1 if the policy refuses the stop or
// cannot decide.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"time"

	"github.com/stopguard/stopguard"
	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/policy"
)

func main() {
	if err := run(os.Stdin, destroy); err != nil {
		fmt.Fprintln(os.Stderr, "embed:", err)
		os.Exit(1)
	}
}

func run(stdin io.Reader, stop func(*domainxml.Domain) error) error {
	xml, err := io.ReadAll(io.LimitReader(stdin, hookproto.MaxXML))
	if err != nil {
		return err
	}
	domain, err := domainxml.Parse(xml)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	decide := stopguard.Decide(stopguard.Config{})
	err = decide(ctx, stopguard.Request{Operation: policy.OperationStop, Caller: self(), Domain: domain})
	var veto *hookproto.Veto
	switch {
	case errors.As(err, &veto):
		return fmt.Errorf("%s must not be stopped: %s (rule %s)", domain.Name, veto.Reason, veto.Rule)
	case err != nil: // a fault refuses as well
		return fmt.Errorf("whether %s may be stopped cannot be decided: %w", domain.Name, err)
	}
	return stop(domain)
}

// self returns the user who runs the program, for the rules and the record.
func self() *policy.Caller {
	c := &policy.Caller{UID: os.Getuid(), GID: os.Getgid(), LoginUID: policy.UnknownID, PID: os.Getpid()}
	if u, err := user.Current(); err == nil {
		c.User = u.Username
	}
	return c
}

func destroy(domain *domainxml.Domain) error {
	return exec.Command("virsh", "destroy", domain.UUID).Run()
}
