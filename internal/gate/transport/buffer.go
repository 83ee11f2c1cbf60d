package transport

import "sync"

// A buffer is what is read into. A connection has one only while it has something to pass on: what
// is idle costs none. Half as large, downloads come a tenth slower; twice as large, whoever does
// not read what they asked for has that much kept for them.
type buffer struct {
	data [128 << 10]byte
	// More descriptors than one sendmsg can carry (SCM_MAX_FD is 253) do not come.
	control [4096]byte
}

var buffers = sync.Pool{New: func() any { return new(buffer) }}
