// Exception is a hook binary with a site's own exception: throw-away domains are never guarded. It can be built as it is.
package main

import (
	"context"
	"strings"

	"github.com/stopguard/stopguard"
	"github.com/stopguard/stopguard/hookproto"
)

func main() {
	guard := stopguard.Handler(stopguard.Config{})
	hookproto.Main(func(ctx context.Context, e *hookproto.Event) error {
		if strings.HasPrefix(e.Domain, "ci-") {
			return nil // throw-away domains
		}
		return guard(ctx, e)
	})
}
