package fleet

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stopguard/stopguard/internal/fleetconfig"
)

func TestAFailureSaysThatThereWasNoAnswer(t *testing.T) {
	f := &Fleet{config: Config{Settings: fleetconfig.Settings{Endpoints: []string{"https://10.0.0.1:2379"}}}}
	for _, tt := range []struct {
		why  string
		err  error
		want string
	}{
		{"the deadline of a request", fmt.Errorf("etcd: %w", context.DeadlineExceeded), "etcd at https://10.0.0.1:2379: no answer in time"},
		{"that of the client's login, of which gRPC keeps the text alone", errors.New("rpc error: code = Unknown desc = context deadline exceeded"), "no answer in time"},
		{"another error", errors.New("permission denied"), "permission denied"},
	} {
		if got := f.failure(tt.err).Error(); !strings.Contains(got, tt.want) || strings.Contains(got, "rpc error") {
			t.Errorf("%s: %s", tt.why, got)
		}
	}
}
