package hostfile

import "time"

// A Stamp is a digest of files' metadata: path, identity, size, mode, owner and times of change. It
// tells whether files that were read after it was taken are unchanged; see [Stamp.Same]. Only
// stamps of the same names can be compared, also with ==.
type Stamp struct {
	sum     [32]byte
	settled bool
}

// settling is the age beyond which a further change is certain to have another time. It is longer
// than the timestamp granularity of the coarsest file system.
const settling = 2500 * time.Millisecond

// Same reports whether nothing has changed between s and the later stamp now. It reports false
// unless s is settled.
func (s Stamp) Same(now Stamp) bool { return s.settled && now.sum == s.sum }

// Settled reports whether the last change was so long before s that the next one has another time.
// It reports false after a change in the future, as if the clock was set back.
func (s Stamp) Settled() bool { return s.settled }

// Stamp returns the stamp of files, and of folders with everything below them, by their host paths.
// It includes the folders between them and the root. "/" is the root itself, which may be a file. A
// missing file differs from every existing one. Stamp does not check permissions. Any change that
// could change the result of Read or ReadDir changes the stamp.
//
// It relies on ctime, which cannot be set. A write through a memory mapping shows when the kernel
// updates the times.
func (r Root) Stamp(names ...string) Stamp { return r.stamp(names) }
