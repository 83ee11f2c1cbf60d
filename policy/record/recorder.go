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

// File is the file of a host's decision records. The rotated file has the suffix .1.
const File = "/var/log/stopguard/decisions.jsonl"

const defaultMaxBytes = 64 << 20

// A Recorder writes events to a host's file and to its journal. The zero value records on this
// host. Any number of recorders, in any number of processes, may write at once.
type Recorder struct {
	// Root is the folder below which the file lies; "" is "/". It does not move the journal's
	// socket.
	Root string

	// MaxBytes is the size beyond which the file is rotated to decisions.jsonl.1, which is
	// replaced; 0 means 64 MiB.
	MaxBytes int64
}

// lockTimeout bounds the wait for other writers. After it, the line is written without the lock:
// one write to a file that is open for appending is atomic, and only a rotation or a torn line at
// the same moment could go wrong.
const lockTimeout = 100 * time.Millisecond

// Write appends the event as one line, with one write, and sends it to the systemd journal if there
// is one. Neither waits for the other. The folder is created with mode 0700 if it is missing. Write
// returns when ctx is done, whatever the disk and the journal do, and leaves the rest to
// goroutines. The error is a [*JournalError] if the journal alone failed and the file has the line.
func (r Recorder) Write(ctx context.Context, e Event) error {
	line, err := json.Marshal(e)
	if err != nil { // a record without its input is better than no record
		e.Result.Reports = append(e.Result.Reports, "the input could not be written down: "+err.Error())
		e.Input = nil
		if line, err = json.Marshal(e); err != nil {
			return fmt.Errorf("record: %w; report this", err)
		}
	}
	e.Input = nil // the journal does not get it
	written, journalled := make(chan error, 1), make(chan error, 1)
	go func() { written <- r.append(append(escaped(line), '\n')) }()
	go func() { journalled <- sendToJournal(e) }()
	err = await(ctx, written, r.path()+" could not be written in time; look at its disk")
	failed := await(ctx, journalled, "the journal did not take it in time; look at systemd-journald")
	if err == nil && failed != nil {
		return &JournalError{failed}
	}
	return errors.Join(err, failed)
}

// A JournalError is returned if the journal lacks an event that the file has.
type JournalError struct{ Err error }

func (e *JournalError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *JournalError) Unwrap() error { return e.Err }

// UnrecordedNote returns the text that an answer's line has if Write failed with err: which record
// is missing, and why.
func UnrecordedNote(err error) string {
	if errors.As(err, new(*JournalError)) {
		return "not in the journal: " + err.Error()
	}
	return "not recorded: " + err.Error()
}

// await waits for a result until ctx is done. Then the error is late.
func await(ctx context.Context, done <-chan error, late string) error {
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done: // both may be ready
		return err
	default:
		return errors.New("record: " + late)
	}
}

// escaped returns the line with every unprintable character written as \uXXXX, which is the same
// JSON. XML allows the control characters U+007F to U+009F in a name, and a terminal would obey
// them. They only occur in strings.
func escaped(line []byte) []byte {
	if isPlain(line) || !bytes.ContainsFunc(line, isUnprintable) {
		return line
	}
	var b bytes.Buffer
	for _, r := range string(line) {
		switch {
		case !isUnprintable(r):
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

// isPlain reports whether the line is printable ASCII. It is ten times as fast as
// bytes.ContainsFunc.
func isPlain(line []byte) bool {
	for _, c := range line {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}

func isUnprintable(r rune) bool { return !unicode.IsPrint(r) }

func (r Recorder) path() string { return filepath.Join(r.Root, File) }

func (r Recorder) append(line []byte) error {
	f, err := r.open()
	if err != nil {
		return failure(r.path(), err)
	}
	defer func() { f.Close() }()
	if lock(f) {
		if f, err = r.rotate(f, int64(len(line))); err != nil {
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

// open opens the file for appending. It does not follow links or wait for the reader of a FIFO.
func (r Recorder) open() (*os.File, error) {
	path := r.path()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		// The root is not created. Otherwise a misspelt root would exist from then on and protect
		// nothing.
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

// lock takes the file's lock, and reports false after lockTimeout. Closing the file releases it.
func lock(f *os.File) bool {
	for end := time.Now().Add(lockTimeout); ; time.Sleep(time.Millisecond) {
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}

// rotate returns the file that is at the path now, locked. Another writer or logrotate may have
// renamed the file that was opened. If the line would make the file too large, rotate renames the
// file.
func (r Recorder) rotate(f *os.File, more int64) (*os.File, error) {
	for range 10 {
		ours, err := f.Stat()
		if err != nil {
			return f, err
		}
		there, err := os.Lstat(r.path())
		same := err == nil && os.SameFile(ours, there)
		limit := r.MaxBytes
		if limit == 0 {
			limit = defaultMaxBytes
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

// tornAtEnd reports whether the last line lacks its newline, as after a full disk. A line that
// another process is writing without the lock lacks it for microseconds. Only a line that stays so
// is torn.
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
