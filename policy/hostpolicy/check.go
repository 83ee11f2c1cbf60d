package hostpolicy

import (
	"context"
	"errors"
	"fmt"
	"path"

	"github.com/stopguard/stopguard/internal/hostfile"
	"github.com/stopguard/stopguard/internal/hostpath"
	"github.com/stopguard/stopguard/internal/problem"
	"github.com/stopguard/stopguard/internal/protectedlist"
	"github.com/stopguard/stopguard/policy"
)

// A Report is the result of [Check]. Each error and warning has the form "what is wrong; what to
// do", in one line.
type Report struct {
	// Errors are the errors with which this version of stopguard would make every stop a fault. It
	// is empty if stopguard can decide.
	Errors []error

	// Warnings are about rules, settings and entries that can be read, but may not protect the
	// domains that they were written for.
	Warnings []error
}

// ErrUnmatched is wrapped by a warning about an entry of the list whose only flaw is that it does
// not match a domain of the host. The domain may be on another host.
var ErrUnmatched = errors.New("no domain matches it")

// Check loads everything that a host decides by, as [Load] and [policy.New] do, and returns all
// errors that can be told from each other, and all warnings. It is for programs that ask before a
// new version or another policy is used.
func Check(ctx context.Context, root string) Report {
	root = hostpath.Root(root)
	at := hostfile.Root(root)
	var r Report
	config := policy.Config{ListName: hostpath.List}
	var err error
	if config.List, err = readOptional(at, hostpath.List, maxList); err != nil {
		r.Errors = append(r.Errors, err)
	} else if list, err := protectedlist.Parse(hostpath.List, config.List); err != nil {
		r.Errors = append(r.Errors, fmt.Errorf("policy: %w", err))
		config.List = nil // otherwise the same error would be returned for the rules
	} else {
		r.Warnings = append(r.Warnings, listWarnings(root, list)...)
	}
	isComplete := true
	for _, read := range []func() ([]policy.Site, error){
		func() ([]policy.Site, error) { return policyFolder(at) },
		func() ([]policy.Site, error) { return packedPolicy(at) },
		func() ([]policy.Site, error) { return agentBundles(root) },
	} {
		sites, err := read()
		if err != nil {
			r.Errors = append(r.Errors, err)
			isComplete = false
		}
		config.Sites = append(config.Sites, sites...)
	}
	if isComplete { // otherwise settings of rules that could not be read would be errors as well
		if engine, err := policy.New(ctx, config); err != nil {
			r.Errors = append(r.Errors, err)
		} else {
			r.Warnings = append(r.Warnings, engine.Warnings()...)
		}
	}
	r.Warnings = append(r.Warnings, Unread(root)...)
	return r
}

// ListWarnings returns the warnings about the entries of the protected list, in the order of the
// file. Entries are compared with the domains that the host has, if these can be read. A list that
// cannot be read has no warnings.
func ListWarnings(root string) []error {
	root = hostpath.Root(root)
	content, err := readOptional(hostfile.Root(root), hostpath.List, maxList)
	if err != nil {
		return nil
	}
	list, err := protectedlist.Parse(hostpath.List, content)
	if err != nil {
		return nil
	}
	return listWarnings(root, list)
}

func listWarnings(root string, list *protectedlist.List) []error {
	var warnings []error
	for _, w := range list.Warnings(domainsOf(root)) {
		warning := &problem.Error{What: fmt.Sprintf("%s line %d: %.100q %s", path.Base(hostpath.List), w.Line, w.Entry, w.What), Cure: w.Cure}
		if w.Unmatched {
			warning.Err = ErrUnmatched
		}
		warnings = append(warnings, warning)
	}
	return warnings
}
