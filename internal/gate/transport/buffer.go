package transport

import "sync"

// A buffer receives the bytes and descriptors of one read. A connection has one only while it
// passes something on, so that an idle connection costs none. With half the size, downloads are a
// tenth slower; with twice the size, twice as much is kept for each client that does not read.
type buffer struct {
	data [128 << 10]byte
	// More descriptors than one sendmsg can carry (SCM_MAX_FD is 253) do not come.
	control [4096]byte
}

var buffers = sync.Pool{New: func() any { return new(buffer) }}
