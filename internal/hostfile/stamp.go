package hostfile

import "time"

// A Stamp is a digest of files' metadata: path, identity, size, mode, owner and times of change. It
// tells whether files that were read after it was taken are still the same; see [Stamp.Same]. Only
// stamps of the same names can be compared, also with ==.
type Stamp struct {
	sum     [32]byte
	settled bool
}

// settling is the age beyond which a change cannot have the same time as the next one. It is longer
// than the timestamp granularity of the coarsest file system.
const settling = 2500 * time.Millisecond

// Same reports whether nothing has changed between s and the later stamp now. It is false unless s
// is settled.
func (s Stamp) Same(now Stamp) bool { return s.settled && now.sum == s.sum }

// Settled reports whether the last change was long enough before s for the next one to have another
// time. A change in the future, after the clock was set back, is not.
func (s Stamp) Settled() bool { return s.settled }

// Stamp stamps files, and folders with everything below them, by their host paths, and the folders
// between them and the root; "/" is the root itself, which may be a file. A missing file differs
// from every existing one. Stamp does not check who may write, but any change that could change the
// result of Read or ReadDir changes the stamp.
//
// It relies on ctime, which cannot be set. A write through a memory mapping is seen when the kernel
// updates the times.
func (r Root) Stamp(names ...string) Stamp { return r.stamp(names) }
