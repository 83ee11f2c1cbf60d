package record

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"syscall"
)

// lookBack bounds the part of the file that Last reads, in bytes: some hundreds of decisions.
const lookBack = 4 << 20

// Last returns the last allow, veto or fault about the domain with the UUID in the file's last 4
// MiB. Lines that cannot be read are skipped. The event explains an escape to people; it decides
// nothing.
func (r Recorder) Last(uuid string) (Event, bool) {
	if uuid == "" {
		return Event{}, false
	}
	lines := end(r.path(), lookBack)
	for len(lines) > 0 {
		i := bytes.LastIndexByte(lines, '\n')
		line := lines[i+1:]
		lines = lines[:max(i, 0)]
		if !bytes.Contains(line, []byte(uuid)) {
			continue
		}
		var e Event
		if json.Unmarshal(line, &e) != nil || e.Result.Domain.UUID != uuid {
			continue // torn, or about another domain
		}
		switch e.Result.Outcome {
		case Allow, Veto, Fault:
			return e, true
		}
	}
	return Event{}, false
}

// end returns up to limit bytes of a file's end. Its first line may be torn.
func end(path string, limit int64) []byte {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil
	}
	content, err := io.ReadAll(io.NewSectionReader(f, max(info.Size()-limit, 0), limit))
	if err != nil {
		return nil
	}
	return content
}
