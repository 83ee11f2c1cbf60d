package doctor

import (
	"context"
	"io"
	"syscall"
	"testing"
	"time"

	"github.com/stopguard/stopguard/internal/host/hosttest"
)

// A patient is a healthy host, to be made ill.
type patient struct {
	*hosttest.Fixture
	doctor doctor // runs the checks
}

func newPatient(t *testing.T) *patient {
	t.Helper()
	p := &patient{hosttest.Healthy(t), doctor{
		free:     func(string) (uint64, error) { return 1 << 30, nil },
		patience: time.Minute,
	}}
	p.Label = func(string) (string, error) { return "", syscall.ENODATA }
	return p
}

// sub returns the patient for a subtest, which makes it ill until its end.
func (p *patient) sub(t *testing.T) *patient { return &patient{p.Sub(t), p.doctor} }

func (p *patient) examine(ctx context.Context) report {
	d := p.doctor
	d.Host = p.Host
	return d.examine(ctx)
}

func (p *patient) run(ctx context.Context, out io.Writer, output string) error {
	d := p.doctor
	d.Host = p.Host
	return d.run(ctx, out, output)
}
