package hooktest

import (
	"context"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/stopguard/stopguard/hookproto"
)

const hookFile = "/etc/libvirt/hooks/qemu"

// function runs a hook within this process.
type function struct {
	handler hookproto.Handler
	bound   time.Duration
	printed func() string
}

func (f function) answer(c call) (result, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return result{}, err
	}
	// Closing wakes an abandoned handler that still reads.
	defer func() { _ = r.Close() }()
	over, fed := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(fed)
		c.stdin.feed(w, over)
	}()
	var errs output
	stderrPipe := io.Writer(&errs)
	if c.closed == stderr {
		stderrPipe = closedPipe{}
	}
	var code int
	done := make(chan struct{})
	go func() {
		defer close(done)
		code = hookproto.Run(context.Background(), append([]string{hookFile}, c.args...), r, stderrPipe, f.handler)
	}()
	late := !endsWithin(f.bound, done)
	close(over)
	_ = w.SetWriteDeadline(time.Now())
	<-fed
	answer := result{stdout: f.printed(), stderr: errs.String(), late: late}
	if !late {
		answer.code = code
	}
	return answer, nil
}

type closedPipe struct{}

func (closedPipe) Write([]byte) (int, error) { return 0, syscall.EPIPE }

// takeStdout makes os.Stdout a file of the kit. printed returns the output since its last call.
func takeStdout(t tester) (printed func() string, restore func()) {
	t.Helper()
	file, err := os.CreateTemp("", "hooktest")
	if err != nil {
		t.Fatalf("there is no file to catch what is printed: %v", err)
	}
	_ = os.Remove(file.Name())
	old := os.Stdout
	os.Stdout = file
	var mutex sync.Mutex
	var seen int64
	printed = func() string {
		mutex.Lock()
		defer mutex.Unlock()
		data, _ := io.ReadAll(io.NewSectionReader(file, seen, maxOutput))
		seen += int64(len(data))
		return string(data)
	}
	return printed, func() {
		os.Stdout = old
		_ = file.Close()
	}
}
