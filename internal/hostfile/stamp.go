package hostfile

import "time"

// A Stamp is what files looked like, without what is in them: of each its place, identity, size, mode, owner, and times of
// change. It tells whether files that were read after it was taken are still the same; see [Stamp.Same]. Stamps can be
// compared, also with ==, only if they are of the same names.
type Stamp struct {
	sum     [32]byte
	settled bool
}

// settling is how old a change must be so that another one cannot have the same time: that of the coarsest file system
// there is, and some.
const settling = 2500 * time.Millisecond

// Same reports whether nothing has changed from before s was taken until now, which was taken later, so that what was read
// between them is what is there. It says so only if s was settled.
func (s Stamp) Same(now Stamp) bool { return s.settled && now.sum == s.sum }

// Settled reports whether the last change was long enough ago, when s was taken, for the next one to have another time. A
// change in the future, by a clock that was set back, is not.
func (s Stamp) Settled() bool { return s.settled }

// Stamp looks at files, and at folders and all below them, as they are named for Read, and at every folder that leads to
// them from the root; "/" is the root itself, which may be a file here. One that is not there looks different from every one that is. Nothing is judged, but whatever could change the
// judgement of Read or ReadDir looks different, too.
//
// It needs a kernel and file system that note the time of a file's change (ctime), which nobody can set. What is written
// through a mapping into memory is seen when the kernel notes it, as by every other program.
func (r Root) Stamp(names ...string) Stamp { return r.stamp(names) }
