package hookproto

import (
	"context"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
)

func TestXMLIsBounded(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		why     string
		stdin   io.Reader
		size    int
		problem string
	}{
		{"a domain", strings.NewReader("<domain/>"), 9, ""},
		{"a domain in pieces", iotest.OneByteReader(strings.NewReader("<domain/>")), 9, ""},
		{"the largest", io.LimitReader(zeros{}, MaxXML), MaxXML, ""},
		{"one byte more", io.LimitReader(zeros{}, MaxXML+1), MaxXML + 1, "larger than 64 MiB; "},
		{"endless", zeros{}, MaxXML + 1, "larger than 64 MiB; "},
		{"nothing", strings.NewReader(""), 0, "empty; "},
		{"no stdin at all", nil, 0, "no stdin"},
		{"a failing stdin", iotest.ErrReader(io.ErrClosedPipe), 0, "closed pipe; "},
		{"a stdin that fails late", io.MultiReader(strings.NewReader("<domain>"), iotest.ErrReader(io.ErrClosedPipe)), 0, "closed pipe; "},
	} {
		t.Run(tt.why, func(t *testing.T) {
			e := &Event{Stdin: tt.stdin}
			for range 2 {
				xml, err := e.XML(t.Context())
				if len(xml) != tt.size {
					t.Errorf("%d bytes, want %d", len(xml), tt.size)
				}
				if (err != nil) != (tt.problem != "") || err != nil && !strings.Contains(err.Error(), tt.problem) {
					t.Errorf("err = %v, want %q", err, tt.problem)
				}
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestXMLIsReadOnce(t *testing.T) {
	e := &Event{Stdin: strings.NewReader("<domain/>")}
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			if xml, err := e.XML(t.Context()); string(xml) != "<domain/>" || err != nil {
				t.Errorf("got %q, %v", xml, err)
			}
		})
	}
	wait.Wait()
}

func TestAStdinThatCrashesIsAnErrorEachTime(t *testing.T) {
	for _, how := range []func(){func() { panic("oh no") }, runtime.Goexit} {
		e := &Event{Stdin: readerFunc(func([]byte) (int, error) { how(); return 0, io.EOF })}
		for range 2 {
			if xml, err := e.XML(t.Context()); err == nil {
				t.Errorf("got %q without an error", xml)
			}
		}
	}
}

func TestXMLThatIsLateIsThereForWhoeverWaitsLonger(t *testing.T) {
	r, w := io.Pipe()
	e := &Event{Stdin: r}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if xml, err := e.XML(over); err != errUnending {
		t.Errorf("got %q, %v before there was any", xml, err)
	}
	go func() {
		_, _ = io.WriteString(w, "<domain/>")
		_ = w.Close()
	}()
	for _, ctx := range []context.Context{t.Context(), over} { // the second time the reading has ended
		if xml, err := e.XML(ctx); string(xml) != "<domain/>" || err != nil {
			t.Errorf("got %q, %v", xml, err)
		}
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
