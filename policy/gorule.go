package policy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/stopguard/stopguard/internal/problem"
	"github.com/stopguard/stopguard/policy/internal/library"
	"github.com/stopguard/stopguard/policy/internal/module"
	"github.com/stopguard/stopguard/policy/internal/settings"
)

// A Rule is a rule written in Go. It returns its reasons against the operation; nil if it allows
// it. A Rego rule sees a JSON document; a Go rule sees the whole [Input], with the domain's own XML
// in Domain.Libvirt and the running domains in Host.Running.
//
// The rule is called for every operation and must look at Input.Operation. The Rule of a reason is
// its own name; the engine sets it if it is empty. An error, a panic, a reason without a
// message, and no answer before ctx ends each veto in the rule's name. The rule must not change the
// Input, and is called by several goroutines at once.
//
// A rule should return when ctx ends. The engine does not wait for one that does not, and its
// goroutine stays.
type Rule = func(ctx context.Context, in Input) ([]Reason, error)

type goRule struct {
	name string
	ask  Rule
}

// WithRules returns an engine with the rules of e and the given ones, by their names. It does not
// change e. It returns an error if a name belongs to another rule, also one of the library, or
// cannot be the name of a rule.
//
// A setting that names a Go rule (data.site.monitor) is checked when the engine is made. So rules
// that are known then belong into [Config.Rules]; for others the site lists the names in
// data.site.go_rules.
func (e *Engine) WithRules(rules map[string]Rule) (*Engine, error) {
	if len(rules) == 0 {
		return e, nil
	}
	known := slices.Concat(e.rules, e.GoRules())
	if err := checkGoRules(rules, known); err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	with := *e
	with.goRules = slices.Clone(e.goRules)
	for name, ask := range rules {
		with.goRules = append(with.goRules, goRule{name, ask})
	}
	slices.SortFunc(with.goRules, func(a, b goRule) int { return strings.Compare(a.name, b.name) })
	return &with, nil
}

// GoRules returns the names of the engine's rules that are written in Go, sorted.
func (e *Engine) GoRules() []string {
	var names []string
	for _, rule := range e.goRules {
		names = append(names, rule.name)
	}
	return names
}

// MissingGoRules returns the names in data.site.go_rules for which the engine does not have a rule,
// sorted. A program that has those rules may decide differently.
func (e *Engine) MissingGoRules() []string {
	missing := slices.DeleteFunc(slices.Clone(e.settings.GoRules), func(name string) bool { return slices.Contains(e.GoRules(), name) })
	slices.Sort(missing)
	return slices.Compact(missing)
}

// checkGoRules returns an error if a name is not one that a rule may have, or if another rule has
// it.
func checkGoRules(rules map[string]Rule, known []string) error {
	for _, name := range slices.Sorted(maps.Keys(rules)) {
		switch {
		case !module.IsRuleName(name):
			return fmt.Errorf("the Go rule %.100q has no usable name; use lower-case letters, digits and _, and begin with a letter", name)
		case slices.Contains(settings.Reserved, name):
			return fmt.Errorf("the Go rule %q has the name of the setting data.site.%s; give it another name", name, name)
		case slices.Contains(known, name) || library.IsRule(name):
			return fmt.Errorf("the Go rule %q has the name of another rule; give it another name", name)
		case rules[name] == nil:
			return fmt.Errorf("the Go rule %q is nil; give it a function", name)
		}
	}
	return nil
}

// ruleMargin is how much sooner a Go rule must answer than Decide: a veto by a rule that is late
// must itself be in time.
const ruleMargin = 50 * time.Millisecond

// withRuleTime returns a context for Go rules, which ends a little before the decision's.
func withRuleTime(ctx context.Context) (context.Context, context.CancelFunc) {
	left := decideLimit
	if deadline, ok := ctx.Deadline(); ok {
		left = min(left, time.Until(deadline))
	}
	return context.WithTimeout(ctx, left-min(left/10, ruleMargin))
}

// startGoRules starts the Go rules, each in a goroutine of its own. The function that it returns
// waits for their reasons until ctx ends.
func (e *Engine) startGoRules(ctx context.Context, in Input) func() []Reason {
	if len(e.goRules) == 0 {
		return func() []Reason { return nil }
	}
	in.Host.Running = in.Host.runningOnce(ctx)
	answers := make([]chan []Reason, len(e.goRules))
	for i, rule := range e.goRules {
		answers[i] = make(chan []Reason, 1)
		go rule.run(ctx, in, answers[i])
	}
	return func() []Reason {
		var all []Reason
		for i, rule := range e.goRules {
			all = append(all, rule.await(ctx, answers[i])...)
		}
		return all
	}
}

// await returns the rule's answer. An answer that is there counts, even if ctx has ended since.
func (r goRule) await(ctx context.Context, answer <-chan []Reason) []Reason {
	select {
	case reasons := <-answer:
		return reasons
	case <-ctx.Done():
	}
	select {
	case reasons := <-answer:
		return reasons
	default:
		return r.failure("it took too long; make it faster")
	}
}

// run calls the rule, and sends its reasons, or the reason that it failed.
func (r goRule) run(ctx context.Context, in Input, answer chan<- []Reason) {
	checked := r.failure("it ended without an answer") // stands if the rule leaves by runtime.Goexit
	defer func() {
		if p := recover(); p != nil {
			checked = r.failure("it panicked: " + problem.OneLine(fmt.Sprint(p)))
		}
		answer <- checked
	}()
	checked = r.reasons(ctx, in)
}

func (r goRule) reasons(ctx context.Context, in Input) (checked []Reason) {
	reasons, err := r.ask(ctx, in)
	for _, reason := range reasons {
		checked = append(checked, r.checkReason(reason))
	}
	if err != nil {
		checked = append(checked, r.failure(problem.OneLine(err.Error()))...)
	}
	return checked
}

func (r goRule) failure(why string) []Reason {
	return []Reason{{Rule: r.name, Message: "rule failed: " + why}}
}

// checkReason checks a reason of a Go rule as [readReason] checks that of a Rego rule. A reason of
// the wrong form becomes one with the message wrongShape.
func (r goRule) checkReason(reason Reason) Reason {
	if reason.Rule == "" {
		reason.Rule = r.name
	}
	if reason.Rule != r.name || strings.TrimSpace(reason.Message) == "" || !reason.Until.IsZero() && reason.Until.UTC().Year() <= 0 {
		return Reason{Rule: r.name, Message: wrongShape}
	}
	reason.Message = strings.ToValidUTF8(reason.Message, "\uFFFD")
	if !reason.Until.IsZero() {
		reason.Until = reason.Until.UTC()
	}
	if reason.Until.After(lastTime) {
		reason.Until = lastTime
	}
	return reason
}

// errNoDomains is returned to a Go rule that reads the running domains if the caller has set
// neither Host.Domains nor Host.Running.
var errNoDomains = errors.New("policy: the input has neither Host.Domains nor Host.Running; set one of them")

// runningOnce returns a Running for Go rules: it returns Domains if they are given, and else reads
// them, once for all rules and no longer than until decided ends.
func (h Host) runningOnce(decided context.Context) func(context.Context) ([]HostDomain, error) {
	read := h.Running
	switch {
	case h.Domains != nil:
		return func(context.Context) ([]HostDomain, error) { return h.Domains, nil }
	case read == nil:
		return func(context.Context) ([]HostDomain, error) { return nil, errNoDomains }
	}
	type answer struct {
		domains []HostDomain
		err     error
	}
	lock := make(chan struct{}, 1) // a channel, so that a rule can stop waiting for the one that reads
	var cache *answer
	return func(ctx context.Context) ([]HostDomain, error) {
		select {
		case lock <- struct{}{}:
			defer func() { <-lock }()
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-decided.Done():
			return nil, decided.Err()
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(decided, cancel)()
		if cache != nil {
			return cache.domains, cache.err
		}
		domains, err := read(ctx)
		if err == nil || ctx.Err() == nil { // otherwise the timeout of one rule would be the error of all
			cache = &answer{domains, err}
		}
		return domains, err
	}
}
