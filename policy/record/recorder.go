package record

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
	"unicode"
	"unicode/utf16"
)

// File is where a host's decisions are recorded. What is set aside ends with .1.
const File = "/var/log/stopguard/decisions.jsonl"

// DefaultMaxBytes is the size of the file beyond which it is set aside, if a [Recorder] does not say.
const DefaultMaxBytes = 64 << 20

// A Recorder writes events to a host's file and to its journal. Its zero value is the recorder of the host itself. Any
// number of recorders, in any number of processes, may write at once.
type Recorder struct {
	// Root is the folder below which the file lies; "" is "/". The journal's socket is never moved.
	Root string

	// MaxBytes is the size beyond which the file is set aside as decisions.jsonl.1, in place of any older one; 0 means
	// [DefaultMaxBytes].
	MaxBytes int64
}

// lockPatience is how long a writer waits for the others. After it, it writes nevertheless: a single write to a file that
// is opened for appending is whole, and only a torn line or a rotation at the same moment could go wrong.
const lockPatience = 100 * time.Millisecond

// Write appends the event as one line, by one write, and sends it to the systemd journal if there is one: neither waits for
// the other. The folder is created if it is missing, for its owner alone. Write returns when ctx is done, whatever the disk
// and the journal do; what it had begun goes on in goroutines. The error is a [*JournalError] if the journal alone failed:
// the file has the line.
func (r Recorder) Write(ctx context.Context, e Event) error {
	line, err := json.Marshal(e)
	if err != nil { // rather a record without its input than none
		e.Result.Reports = append(e.Result.Reports, "the input could not be written down: "+err.Error())
		e.Input = nil
		if line, err = json.Marshal(e); err != nil {
			return fmt.Errorf("record: %w; report this", err)
		}
	}
	e.Input = nil // the journal does not get it, and may be long in taking the rest
	written, journalled := make(chan error, 1), make(chan error, 1)
	go func() { written <- r.append(append(escaped(line), '\n')) }()
	go func() { journalled <- sendToJournal(e) }()
	err = inTime(ctx, written, r.path()+" could not be written in time; look at its disk")
	failed := inTime(ctx, journalled, "the journal did not take it in time; look at systemd-journald")
	if err == nil && failed != nil {
		return &JournalError{failed}
	}
	return errors.Join(err, failed)
}

// A JournalError is why the journal lacks an event that the file has.
type JournalError struct{ Err error }

func (e *JournalError) Error() string { return e.Err.Error() }

// Unwrap gives Err.
func (e *JournalError) Unwrap() error { return e.Err }

// Lack is what the line of an answer says beside it if Write failed with err: which record lacks it, and why.
func Lack(err error) string {
	if errors.As(err, new(*JournalError)) {
		return "not in the journal: " + err.Error()
	}
	return "not recorded: " + err.Error()
}

// inTime waits for something until ctx is done, and then says what is late.
func inTime(ctx context.Context, done <-chan error, late string) error {
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done: // it may be over for a while
		return err
	default:
		return errors.New("record: " + late)
	}
}

// escaped writes what is not printable as JSON can, which changes no value: XML allows a name the control characters from
// U+007F to U+009F, and somebody will look at the file with tail. It can only be in a string.
func escaped(line []byte) []byte {
	if isPlain(line) || !bytes.ContainsFunc(line, unprintable) {
		return line
	}
	var b bytes.Buffer
	for _, r := range string(line) {
		switch {
		case !unprintable(r):
			b.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.Bytes()
}

// isPlain spares nearly every line the question for each of its characters, which takes ten times as long.
func isPlain(line []byte) bool {
	for _, c := range line {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }

func (r Recorder) path() string { return filepath.Join(r.Root, File) }

func (r Recorder) append(line []byte) error {
	f, err := r.open()
	if err != nil {
		return failure(r.path(), err)
	}
	defer func() { f.Close() }()
	if lock(f) {
		if f, err = r.current(f, int64(len(line))); err != nil {
			return failure(r.path(), err)
		}
		if tornAtEnd(f) {
			line = append([]byte{'\n'}, line...)
		}
	}
	if _, err := f.Write(line); err != nil {
		return failure(r.path(), err)
	}
	return f.Close()
}

func failure(path string, err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		err = at.Err
	}
	return fmt.Errorf("record: %s: %w; the decision stands", path, err)
}

// open opens the file for appending. It follows no link and does not wait for a FIFO's reader.
func (r Recorder) open() (*os.File, error) {
	path := r.path()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		// The root itself is not made: a misspelt one would be there from then on, with nothing in it that protects.
		if _, err := os.Stat(r.Root); r.Root != "" && err != nil {
			return nil, err
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, err
		}
		f, err = os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("is no regular file")
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// lock waits for the file's lock, but not for ever. Closing the file frees it.
func lock(f *os.File) bool {
	for end := time.Now().Add(lockPatience); ; time.Sleep(time.Millisecond) {
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}

// current gives the file that is at the path now, locked: whoever had the lock before may have set ours aside, and so does
// logrotate. A file that has grown too large is set aside here.
func (r Recorder) current(f *os.File, more int64) (*os.File, error) {
	for range 10 {
		ours, err := f.Stat()
		if err != nil {
			return f, err
		}
		there, err := os.Lstat(r.path())
		same := err == nil && os.SameFile(ours, there)
		limit := r.MaxBytes
		if limit == 0 {
			limit = DefaultMaxBytes
		}
		if same && (ours.Size() == 0 || ours.Size()+more <= limit) {
			return f, nil
		}
		if same {
			if err := os.Rename(r.path(), r.path()+".1"); err != nil {
				return f, err
			}
		}
		next, err := r.open()
		if err != nil {
			return f, err
		}
		f.Close()
		f = next
		if !lock(f) {
			return f, nil
		}
	}
	return f, nil
}

// tornAtEnd reports whether the last line has no end, as after a full disk. A line that somebody is writing without the
// lock, which takes microseconds, has none yet: only one that stays so is torn.
func tornAtEnd(f *os.File) bool {
	for range 5 {
		info, err := f.Stat()
		if err != nil || info.Size() == 0 {
			return false
		}
		last := make([]byte, 1)
		if _, err = f.ReadAt(last, info.Size()-1); err != nil || last[0] == '\n' {
			return false
		}
		time.Sleep(2 * time.Millisecond)
	}
	return true
}
