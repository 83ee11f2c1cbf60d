package record

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"syscall"
)

// lookBack is how much of the end of the file Last reads: some hundreds of decisions.
const lookBack = 4 << 20

// Last gives the last question about the domain with the UUID that the file has: what a hook or another enforcement point
// was asked, and what became of it. It reads no more than the file's last 4 MiB, and what cannot be read is not there: it
// is for telling people more, and not for deciding.
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
			continue // torn, or it only mentions the domain
		}
		switch e.Result.Outcome {
		case Allow, Veto, Fault:
			return e, true
		}
	}
	return Event{}, false
}

// end gives up to limit bytes of a file's end; the first line of it may be torn.
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
