// Hook is a hook binary with a rule of its own, written in Go: a CI runner that works must not be
// stopped.
package main

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/stopguard/stopguard"
	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/policy"
)

func main() {
	rules := map[string]func(context.Context, policy.Input) ([]policy.Reason, error){"ci_job": ciJob}
	hookproto.Main(stopguard.Handler(stopguard.Config{Rules: rules}))
}

func ciJob(_ context.Context, in policy.Input) ([]policy.Reason, error) {
	_, err := os.Stat("/run/ci/" + in.Domain.Name)
	if in.Operation != policy.OperationStop || errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return []policy.Reason{{Message: "runs a CI job; cancel it first"}}, err // an error vetoes, too
}
