package testhost

import (
	"bytes"
	"sync"
)

// A Buffer may be written by one goroutine while others read it. Its zero value is empty.
type Buffer struct {
	mutex sync.Mutex
	all   bytes.Buffer
}

// Write appends to the buffer.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.all.Write(p)
}

// String returns the content so far.
func (b *Buffer) String() string {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.all.String()
}
