package fleet

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
)

func TestAnAttemptThatHangsDoesNotKeepTheOthersFromAnswering(t *testing.T) {
	failed, hasFailed := errors.New("transport is closing"), make(chan struct{})
	for _, tt := range []struct {
		why  string
		do   func(ctx context.Context, n int32) (int32, error)
		want int32
		err  error
	}{
		{"the first answers", func(_ context.Context, n int32) (int32, error) { return n, nil }, 1, nil},
		{"the first two hang", func(ctx context.Context, n int32) (int32, error) {
			if n <= 2 {
				<-ctx.Done()
				return 0, ctx.Err()
			}
			return n, nil
		}, 3, nil},
		{"the endpoint of the first has ended", func(_ context.Context, n int32) (int32, error) {
			if n == 1 {
				return 0, failed
			}
			return n, nil
		}, 2, nil},
		{"the second fails, and the first is slow", func(ctx context.Context, n int32) (int32, error) {
			if n == 2 {
				defer close(hasFailed)
				return 0, failed
			}
			<-hasFailed
			return n, ctx.Err()
		}, 1, nil},
		{"all fail", func(context.Context, int32) (int32, error) { return 0, failed }, 0, failed},
		{"all hang", func(ctx context.Context, _ int32) (int32, error) { <-ctx.Done(); return 0, ctx.Err() }, 0, context.DeadlineExceeded},
	} {
		t.Run(tt.why, func(t *testing.T) {
			if testing.Short() && errors.Is(tt.err, context.DeadlineExceeded) {
				t.Skip("it waits for requestTime")
			}
			t.Parallel() // they wait
			var n atomic.Int32
			got, err := attempts(context.Background(), func(ctx context.Context) (int32, error) { return tt.do(ctx, n.Add(1)) })
			if !errors.Is(err, tt.err) || got != tt.want {
				t.Errorf("%d %v", got, err)
			}
			if n.Load() > maxAttempts {
				t.Errorf("%d attempts", n.Load())
			}
		})
	}
}
