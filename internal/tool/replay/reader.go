package replay

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/stopguard/stopguard/internal/terminal"
	"github.com/stopguard/stopguard/internal/tool/log"
)

// A recordReader reads the records of files in batches, in their order.
type recordReader struct {
	batches  chan [][]byte
	stdin    io.Reader
	progress *terminal.Progress

	batch     [][]byte
	size      int
	read, all int64 // bytes of the files, before decompression
}

// batchSize is the size of a batch in bytes. Passing a batch on costs little compared with its
// work.
const batchSize = 1 << 20

func (r *recordReader) files(ctx context.Context, names []string) error {
	for _, name := range names {
		if info, err := os.Stat(name); err == nil {
			r.all += info.Size()
		}
	}
	for _, name := range names {
		if err := r.file(ctx, name); err != nil {
			return fmt.Errorf("%s: %w; name a decisions.jsonl", name, err)
		}
	}
	return r.flush(ctx)
}

func (r *recordReader) file(ctx context.Context, name string) error {
	source := r.stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			if at := (*os.PathError)(nil); errors.As(err, &at) {
				err = at.Err
			}
			return err
		}
		defer f.Close()
		source = f
	}
	in := bufio.NewReaderSize(io.TeeReader(source, (*countedBytes)(&r.read)), 256<<10)
	if magic, _ := in.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		stream, err := gzip.NewReader(in)
		if err != nil {
			return err
		}
		in = bufio.NewReaderSize(stream, 256<<10)
	}
	if isArray(in) {
		return r.array(ctx, in)
	}
	return r.lines(ctx, in)
}

type countedBytes int64

func (n *countedBytes) Write(p []byte) (int, error) {
	*n += countedBytes(len(p))
	return len(p), nil
}

// isArray reports whether the file is an array, as OPA uploads it, and not a record a line.
func isArray(in *bufio.Reader) bool {
	for n := 1; ; n++ {
		begins, err := in.Peek(n)
		if err != nil {
			return false
		}
		switch begins[n-1] {
		case ' ', '\t', '\r', '\n':
		default:
			return begins[n-1] == '['
		}
	}
}

func (r *recordReader) array(ctx context.Context, in io.Reader) error {
	d := json.NewDecoder(in)
	if _, err := d.Token(); err != nil {
		return err
	}
	for d.More() {
		var event json.RawMessage
		if err := d.Decode(&event); err != nil {
			return err
		}
		if err := r.add(ctx, event); err != nil {
			return err
		}
	}
	_, err := d.Token()
	return err
}

func (r *recordReader) lines(ctx context.Context, in *bufio.Reader) error {
	var line []byte
	long := false // a line that is longer than any record is cut, and counts as torn
	for {
		part, err := in.ReadSlice('\n')
		if long = long || len(line)+len(part) > log.MaxRecord; !long {
			line = append(line, part...)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if trimmed := bytes.TrimSpace(line); len(trimmed) > 0 {
			if err := r.add(ctx, bytes.Clone(trimmed)); err != nil {
				return err
			}
		}
		line, long = line[:0], false
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

func (r *recordReader) add(ctx context.Context, line []byte) error {
	r.batch = append(r.batch, line)
	if r.size += len(line); r.size < batchSize {
		return nil
	}
	return r.flush(ctx)
}

func (r *recordReader) flush(ctx context.Context) error {
	select {
	case r.batches <- r.batch:
	case <-ctx.Done():
		return ctx.Err()
	}
	r.batch, r.size = nil, 0
	r.progress.Show("replaying, KiB", int(r.read>>10), int(r.all>>10))
	return nil
}
