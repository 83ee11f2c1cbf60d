package hookproto

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// The exit codes of a hook. libvirt distinguishes only zero and non-zero. The difference between a
// veto and a fault is for people and monitoring.
const (
	ExitAllow = 0 // ExitAllow: the stop is allowed.
	ExitVeto  = 1 // ExitVeto: a rule refuses the stop.
	ExitFault = 2 // ExitFault: no decision could be made, and the stop is refused.
)

const (
	handlerTime = 1900 * time.Millisecond // the deadline of the Handler's context, early enough for the Handler to report the cause itself
	answerTime  = 2 * time.Second         // the time after which Run answers without the Handler
	writeTime   = 250 * time.Millisecond  // the timeout for writing the line, in case a full pipe is not read
)

// Handler decides about one [Event]. nil allows the stop. A [*Veto], also a wrapped one, refuses
// it. Any other error, a panic, and a nil *Veto are faults and refuse it, too. A fault's text
// states what happened and, after a semicolon, what to do. Handler is called for stop and for
// release; for release its result is ignored. It runs in its own goroutine, which is abandoned
// after the timeout.
type Handler func(context.Context, *Event) error

// Run answers one call of a hook and returns the exit code: [ExitAllow], [ExitVeto] or [ExitFault].
// args is os.Args: the hook file and four arguments. A veto or a fault writes one line to stderr,
// at most 1024 bytes of printable text. Run writes nothing else, and a failing stderr does not
// change an answer.
//
// Run returns 0 for any operation but stop. The Handler is called for release too, but only a stop
// can be refused. The Handler's context ends after 1.9 s, and after 2 s Run returns a fault without
// waiting for it. Run may be called by several goroutines at once.
func Run(ctx context.Context, args []string, stdin io.Reader, stderr io.Writer, h Handler) int {
	return run(ctx, args, stdin, stderr, h, time.Now(), nil)
}

// run is Run with the time at which the process began and a channel that reports an exceeded bound
// of the process.
func run(ctx context.Context, args []string, stdin io.Reader, stderr io.Writer, h Handler, began time.Time, exceeded <-chan error) int {
	if !concerns(args) {
		return ExitAllow
	}
	event, err := parse(args[1:])
	refusable := Op(args[2]) == OpStop
	if err == nil {
		event.Stdin = stdin
		err = call(ctx, h, event, began, exceeded)
	}
	if err == nil || !refusable {
		return ExitAllow
	}
	var veto *Veto
	if errors.As(err, &veto) {
		write(stderr, vetoLine(args[1], veto))
		return ExitVeto
	}
	write(stderr, faultLine(args[1], err.Error(), args[0]))
	return ExitFault
}

// concerns reports whether the call is for stop or release. It must not be able to fail: otherwise
// a broken guard would break every other operation of the host.
func concerns(args []string) bool {
	return len(args) > 2 && (Op(args[2]) == OpStop || Op(args[2]) == OpRelease)
}

// protocol is the second half of a fault about a call that libvirt does not make.
const protocol = "the hook protocol is NAME OPERATION SUB-OPERATION EXTRA, as libvirt gives it"

func parse(args []string) (*Event, error) {
	if len(args) != 4 {
		return nil, fmt.Errorf("%d arguments instead of 4; %s", len(args), protocol)
	}
	e := &Event{Domain: args[0], Op: Op(args[1]), SubOp: args[2], Extra: args[3]}
	want := "begin"
	if e.Op == OpRelease {
		want = "end"
	}
	switch {
	case e.SubOp != want:
		return nil, fmt.Errorf("the sub-operation is not %s; %s", want, protocol)
	case e.Domain == "":
		return nil, fmt.Errorf("the domain's name is empty; %s", protocol)
	case strings.Contains(e.Domain, "/"):
		return nil, errors.New("the domain's name has a slash in it, which libvirt forbids; rename the domain")
	}
	return e, nil
}

// call returns nil, a plain *Veto, or a plain error. No method of the Handler's own error is called
// after the timeout: it could block.
func call(ctx context.Context, h Handler, e *Event, began time.Time, exceeded <-chan error) error {
	if h == nil {
		return errors.New("the guard has no handler; build the hook with one")
	}
	ctx, cancel := context.WithDeadline(ctx, began.Add(handlerTime))
	defer cancel()
	answer := make(chan error, 1)
	go func() {
		// This error stands if the Handler leaves by runtime.Goexit, which recover does not see.
		err := errors.New("the guard gave up without an answer; report this as a bug")
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("the guard crashed: %s; report this as a bug", clip(fmt.Sprint(p)))
			}
			answer <- err
		}()
		err = judge(h(ctx, e))
	}()
	over := time.NewTimer(time.Until(began.Add(answerTime)))
	defer over.Stop()
	select {
	case err := <-answer:
		return err
	case err := <-exceeded:
		return err
	case <-over.C:
		return errTooLate
	}
}

func judge(err error) error {
	if err == nil {
		return nil
	}
	var veto *Veto
	if errors.As(err, &veto) {
		if veto == nil {
			return errors.New("the guard answered with a nil veto; report this as a bug")
		}
		answer := *veto
		return &answer
	}
	text := err.Error()
	if text == "" {
		text = "the guard failed without saying why; report this as a bug"
	}
	return errors.New(clip(text))
}

// clip bounds a huge text early. line cuts it at the right place later.
func clip(s string) string { return s[:min(len(s), 4*maxLine)] }

var errTooLate = errors.New("no decision within 2 s; try again, and look for a slow rule, a stuck disk or a host under load")

// write stops waiting if the line is not read within writeTime: the exit code is the answer.
func write(w io.Writer, line string) {
	if w == nil {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { _ = recover() }()
		_, _ = io.WriteString(w, line)
	}()
	select {
	case <-done:
	case <-time.After(writeTime):
	}
}
