package notify

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/stopguard/stopguard/internal/quote"
	"github.com/stopguard/stopguard/policy/record"
)

// A position is the place up to which the record has been read.
type position struct {
	Dev    uint64 `json:"dev"`
	Inode  uint64 `json:"inode"`
	Offset int64  `json:"offset"`
	Before string `json:"before"` // digest of the bytes before the offset, because inodes are reused
}

// isIn reports whether the position is in the file. at is a position in that file.
func (p position) isIn(file *os.File, at position) bool {
	return p.Dev == at.Dev && p.Inode == at.Inode && p.Before == digestBefore(file, p.Offset)
}

// digestBefore returns a digest of the last bytes before an offset. They contain the ID of a
// decision, so they differ between files.
func digestBefore(file io.ReaderAt, offset int64) string {
	const enough = 4 << 10
	part := make([]byte, min(offset, enough))
	if n, err := file.ReadAt(part, offset-int64(len(part))); n < len(part) {
		return fmt.Sprint(err)
	}
	sum := sha256.Sum256(part)
	return hex.EncodeToString(sum[:8])
}

const (
	maxLine = 128 << 20 // bytes; the domain's XML is in it
	maxUsed = 1000      // stored uses of tickets
)

// A decision has the fields of a record that are read. The input is skipped.
type decision struct {
	DecisionID string        `json:"decision_id"`
	Result     record.Result `json:"result"`
	Timestamp  time.Time     `json:"timestamp"`
}

// Lines with one of these parts are decoded. A domain's owner cannot write them, because quotes in
// text are escaped.
var (
	escapePart = []byte(`"outcome":"` + record.Escape + `"`)
	ticketPart = []byte(`"ticket":{`)
)

// seeRecords returns the events about escapes and uses of tickets.
func (w *watcher) seeRecords(now *state) ([]Event, error) {
	used := slices.Clone(now.Used)
	var events []Event
	at, err := readRecords(w.root, now.Records, func(d decision) {
		e := Event{Time: d.Timestamp, Name: d.Result.Domain.Name, UUID: d.Result.Domain.UUID, DecisionID: d.DecisionID}
		of := quote.Text(e.Name)
		switch t := d.Result.Ticket; {
		case d.Result.Outcome == record.Escape:
			e.What, e.Reason = Escape, d.Result.Detail
			e.Text = of + ": was protected, and went down past the guard: " + e.Reason
		case d.Result.Outcome == record.Allow && t != nil:
			// The gate and the hook both record a stop.
			use := fmt.Sprintf("%s %s %d %d", t.ID, e.UUID, d.Result.Domain.PID, d.Result.Domain.Start)
			if slices.Contains(used, use) {
				return
			}
			used = append(used, use)
			e.What, e.Ticket, e.Person, e.Approvers, e.Reason = TicketUsed, t.ID, t.Requester, t.Approvers, t.Reason
			operation := "stop"
			if d.Result.Request != nil {
				operation = d.Result.Request.Operation
			}
			e.Operations = []string{operation}
			e.Text = fmt.Sprintf("%s: a %s was let through by the ticket of %s: %s", of, operation, quote.Text(t.Requester), quote.Text(t.Reason))
		default:
			return
		}
		e.identify(d.DecisionID)
		events = append(events, e)
	})
	now.Records = at
	now.Used = used[max(len(used)-maxUsed, 0):]
	return events, err
}

// readRecords calls f for each decision behind a position that is an escape or has a ticket, and
// returns the new position. If the file was rotated, the old file is read to its end first.
func readRecords(root string, from position, f func(decision)) (position, error) {
	path := filepath.Join("/", root, record.File)
	file, at, err := openRecord(path)
	if errors.Is(err, fs.ErrNotExist) { // the file was rotated, and nothing was recorded since
		if from.Inode == 0 {
			return from, nil
		}
		from, err = readRotated(path, from, f)
		return from, ignoreMissing(err)
	}
	if err != nil {
		return from, err
	}
	defer file.Close()
	if from.isIn(file, at) {
		at.Offset = from.Offset
	} else if from.Inode != 0 { // the file was rotated or truncated
		if from, err := readRotated(path, from, f); ignoreMissing(err) != nil {
			return from, err
		}
	}
	at.Offset, err = readFrom(file, at.Offset, f)
	at.Before = digestBefore(file, at.Offset)
	return at, err
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// readRotated reads the rest of the rotated file that has the position.
func readRotated(path string, from position, f func(decision)) (position, error) {
	files, _ := filepath.Glob(path + "?*")
	for _, name := range files {
		file, at, err := openRecord(name)
		if err != nil {
			continue
		}
		if from.isIn(file, at) {
			from.Offset, err = readFrom(file, from.Offset, f)
			from.Before = digestBefore(file, from.Offset)
			return from, errors.Join(err, file.Close())
		}
		_ = file.Close()
	}
	return from, fs.ErrNotExist
}

func openRecord(path string) (*os.File, position, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, position{}, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", path)
	}
	if err != nil {
		return nil, position{}, errors.Join(err, file.Close())
	}
	stat := info.Sys().(*syscall.Stat_t)
	return file, position{Dev: uint64(stat.Dev), Inode: stat.Ino}, nil
}

// readFrom calls f for lines from an offset on, and returns the end of the last complete line.
func readFrom(file io.ReaderAt, offset int64, f func(decision)) (int64, error) {
	lines := bufio.NewReaderSize(io.NewSectionReader(file, offset, 1<<62), 256<<10)
	var line []byte
	length := int64(0)
	for {
		part, err := lines.ReadSlice('\n')
		length += int64(len(part))
		if len(line)+len(part) <= maxLine {
			line = append(line, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF):
			return offset, nil // an incomplete line is read later
		case err != nil:
			return offset, err
		}
		var d decision
		if (bytes.Contains(line, escapePart) || bytes.Contains(line, ticketPart)) && json.Unmarshal(line, &d) == nil {
			f(d)
		}
		offset += length
		line, length = line[:0], 0
	}
}

// Escapes counts the escapes in a host's record. It is safe for concurrent use.
type Escapes struct {
	Root string

	mu    sync.Mutex
	at    position
	times []time.Time
}

// Since returns the number of escapes after earliest, which must not decrease between calls. The
// first call reads the whole record and the last rotated file; later calls read the new part.
func (e *Escapes) Since(earliest time.Time) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	add := func(d decision) {
		if d.Result.Outcome == record.Escape {
			e.times = append(e.times, d.Timestamp)
		}
	}
	if e.at.Inode == 0 {
		if file, _, err := openRecord(filepath.Join("/", e.Root, record.File+".1")); err == nil {
			_, err = readFrom(file, 0, add)
			if err = errors.Join(err, file.Close()); err != nil {
				return 0, err
			}
		}
	}
	var err error
	e.at, err = readRecords(e.Root, e.at, add)
	e.times = slices.DeleteFunc(e.times, func(t time.Time) bool { return !t.After(earliest) })
	return len(e.times), err
}
