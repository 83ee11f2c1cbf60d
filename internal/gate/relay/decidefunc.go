package relay

import (
	"context"

	"github.com/stopguard/stopguard"
)

// A Verdict decides about a request: nil lets the call pass, a *hookproto.Veto is a veto, every other error a fault. It is
// what [stopguard.Decide] makes. It is called from many goroutines at once, and should return when ctx is done; a call is
// refused then in any case.
type DecideFunc func(ctx context.Context, r stopguard.Request) error
