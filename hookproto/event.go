package hookproto

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
)

// MaxXML is the largest XML that [Event.XML] reads, in bytes. A call to libvirt carries up to 4
// MiB, in which a guest's owner may set the title, the description or an element of the metadata.
// libvirt writes a quotation mark as six bytes.
const MaxXML = 64 << 20

// ErrTooLarge is returned by [Event.XML] if the XML is larger than [MaxXML] bytes.
var ErrTooLarge = fmt.Errorf("the domain XML is larger than %d MiB; make the domain's metadata smaller", MaxXML>>20)

// Event is one call of a hook. It must not be copied. Its fields come from argv and can be set by
// every user who may define a domain: do not print them unfiltered.
type Event struct {
	Domain string    // Domain is the domain's name, never empty and without a slash when it comes from Run.
	Op     Op        // Op is OpStop or OpRelease when it comes from Run.
	SubOp  string    // SubOp is "begin" for a stop, "end" for a release.
	Extra  string    // Extra is "-", or for a release why the domain ended (libvirt 10.5.0).
	Stdin  io.Reader // Stdin holds the domain XML; use XML to read it.

	once  sync.Once
	ended chan struct{} // created by once, and closed when read and err are set
	read  []byte        // the bytes read from Stdin, whether valid or not
	err   error
}

var errUnending = errors.New("the domain XML on stdin did not end in time; run the stop again")

// XML returns the domain XML from Stdin. Stdin is read once, even if XML is called several times or
// by several goroutines. The bytes are shared and must not be changed. XML returns an error if
// Stdin is nil, empty, larger than [MaxXML] bytes, or fails. It also returns an error if Stdin has
// not ended when ctx is done; reading continues then, and a later call may return the XML. With
// [ErrTooLarge] it returns the beginning of the XML. A question mark replaces each control
// character that XML does not allow: libvirt writes those from 1a to 1f.
func (e *Event) XML(ctx context.Context) ([]byte, error) {
	e.once.Do(func() {
		e.ended = make(chan struct{})
		go e.readStdin()
	})
	if err := e.wait(ctx); err != nil {
		return nil, err
	}
	if e.err != nil && e.err != ErrTooLarge {
		return nil, e.err
	}
	return e.read, e.err
}

// wait waits until the reading has ended. If it has ended already, wait succeeds even if ctx is
// done.
func (e *Event) wait(ctx context.Context) error {
	select {
	case <-e.ended:
		return nil
	default:
	}
	select {
	case <-e.ended:
		return nil
	case <-ctx.Done():
		return errUnending
	}
}

// readStdin may outlive the call that started it. It recovers from a panic: otherwise a failing
// reader would crash the hook.
func (e *Event) readStdin() {
	defer func() {
		_ = recover()
		close(e.ended)
	}()
	e.err = errors.New("reading the domain XML from stdin crashed; report this as a bug")
	e.read, e.err = readXML(e.Stdin)
}

// readXML returns the bytes read so far together with an error.
func readXML(r io.Reader) ([]byte, error) {
	if r == nil {
		return nil, errors.New("there is no stdin to read the domain XML from; libvirt gives it to a hook")
	}
	var all bytes.Buffer // grows in fewer steps than io.ReadAll
	_, err := all.ReadFrom(io.LimitReader(r, MaxXML+1))
	data := replaceControls(all.Bytes())
	switch {
	case err != nil:
		return data, fmt.Errorf("reading the domain XML from stdin: %w; run the stop again", err)
	case len(data) > MaxXML:
		return data, ErrTooLarge
	case len(data) == 0:
		return nil, errors.New("the domain XML on stdin is empty; libvirt gives it to a hook")
	}
	return data, nil
}
