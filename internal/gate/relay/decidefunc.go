package relay

import (
	"context"

	"github.com/stopguard/stopguard"
)

// A DecideFunc decides about a request; [stopguard.Decide] returns one. If it returns nil, the call
// passes. A *hookproto.Veto is a veto, and any other error is a fault. It is called from many
// goroutines at once. It should return when ctx is done; the call is refused then in any case.
type DecideFunc func(ctx context.Context, r stopguard.Request) error
