package testhost

import (
	"bytes"
	"sync"
)

// A Buffer is written to by one goroutine while another reads all of it. Its zero value is empty.
type Buffer struct {
	mutex sync.Mutex
	all   bytes.Buffer
}

// Write adds to what there is.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.all.Write(p)
}

// String gives what has been written so far.
func (b *Buffer) String() string {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.all.String()
}
