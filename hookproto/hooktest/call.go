package hooktest

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/stopguard/stopguard/hookproto"
)

// A call is the input of one run of a hook.
type call struct {
	args   []string
	stdin  stdin
	closed closed
}

// stdin describes the bytes that arrive through the pipe and whether the pipe ends.
type stdin struct {
	name    string // as in "reconnect is let through, given NAME"
	data    []byte
	repeat  int  // number of further copies of data
	endless bool // the pipe is held open
}

// closed selects the other ends of a hook's pipes that are closed before it starts.
type closed int

const (
	none   closed = iota
	stderr        // the hook's stderr is not read
	stdout
	null // all three descriptors are /dev/null, as libvirt sets them for an empty stdin and for unwanted output
)

// A hook answers calls, and may answer several at once.
type hook interface{ answer(call) (result, error) }

type result struct {
	code           int    // the exit status, -1 for a process that a signal ended
	signal         string // the signal's name, or ""
	stdout, stderr string
	late           bool     // it was still running after the bound
	leftovers      []string // descriptions of the processes and descriptors that outlived it
}

func (r result) status() string {
	switch {
	case r.late:
		return "no answer"
	case r.signal != "":
		return "ended by the signal " + r.signal
	}
	return fmt.Sprintf("exit %d", r.code)
}

// hasDiedOfClosedStderr reports whether writing to the closed stderr ended the hook. libvirt takes
// that for a refusal as well.
func (r result) hasDiedOfClosedStderr(c call) bool {
	return c.closed == stderr && r.signal == syscall.SIGPIPE.String()
}

func (c call) String() string {
	s := fmt.Sprintf("%.60q", c.args)
	if c.stdin.name != "" {
		s += " given " + c.stdin.name
	}
	return s
}

// key tells a call from every other of the contract, except from those of another hook.
func (c call) key() string { return fmt.Sprintf("%q %s %d", c.args, c.stdin.name, c.closed) }

func (c call) op() hookproto.Op {
	if len(c.args) < 2 {
		return ""
	}
	return hookproto.Op(c.args[1])
}

// feed writes until all is written or the hook stops reading. A hook need not read everything.
func (s stdin) feed(w io.WriteCloser, done <-chan struct{}) {
	defer func() { _ = w.Close() }()
	for range s.repeat + 1 {
		if _, err := w.Write(s.data); err != nil {
			return
		}
	}
	if s.endless {
		<-done
	}
}

// variants returns each way in which the XML may arrive, or fail to.
func variants(xml []byte) []stdin {
	return []stdin{
		{name: "its XML", data: xml},
		{name: "an end at once"},
		{name: "nothing and no end", endless: true},
		{name: "its XML and no end", data: xml, endless: true},
		{name: "half of its XML, since the writer was killed", data: xml[:len(xml)/2]},
		{name: "what is no XML", data: []byte("\x00\xff<!DOCTYPE a [<!ENTITY b SYSTEM '/dev/zero'>]><a>&b;")},
		{name: "100 MiB", data: []byte(strings.Repeat("x", 1<<20)), repeat: 99},
	}
}

// output stores the written bytes, up to a limit, and may be read while it is written.
type output struct {
	mutex sync.Mutex
	data  []byte
}

const maxOutput = 64 << 10

func (o *output) Write(p []byte) (int, error) {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	o.data = append(o.data, p[:min(len(p), maxOutput-len(o.data))]...)
	return len(p), nil
}

func (o *output) String() string {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	return string(o.data)
}

func endsWithin(d time.Duration, done <-chan struct{}) bool {
	over := time.NewTimer(d)
	defer over.Stop()
	select {
	case <-done:
		return true
	case <-over.C:
		return false
	}
}
