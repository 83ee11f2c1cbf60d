package hold

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stopguard/stopguard/internal/hostfile"
	"github.com/stopguard/stopguard/internal/problem"
	"github.com/stopguard/stopguard/internal/uuid"
	"github.com/stopguard/stopguard/policy"
)

const (
	maxNames = 10_000 // files of a folder
	maxHolds = 200    // files about one domain in a folder; further ones count as one hold
)

// Of returns the holds on a domain, the oldest first. A locked file that cannot be read counts as a
// hold, with the error as its reason. Of returns an error if the folder cannot be read or others
// may write it; a missing folder is not an error. An error is one line, "hold: WHAT; WHAT TO DO".
func (s Store) Of(domain string, now time.Time) ([]policy.Hold, error) {
	all, err := s.read(uuid.Canonical(domain), now)
	return all[uuid.Canonical(domain)], err
}

// All returns every hold on the host, by the domain's UUID. It reads the folder once, for programs
// that decide about many domains.
func (s Store) All(now time.Time) (map[string][]policy.Hold, error) { return s.read("", now) }

// read reads the holds on one domain, or on all if it is "".
func (s Store) read(domain string, now time.Time) (map[string][]policy.Hold, error) {
	if _, err := os.Lstat(s.path(home)); errors.Is(err, fs.ErrNotExist) {
		return nil, nil // as on most hosts
	}
	if err := hostfile.Root(s.Root).Judge(home); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, problem.Prefix("hold: ", err, "correct this and try again")
	}
	r := reader{domain: domain, now: now, found: map[string][]policy.Hold{}}
	folders, err := r.folder(s.path(home), uint32(os.Geteuid()))
	if err != nil {
		return nil, err
	}
	for _, name := range folders {
		folder := filepath.Join(s.path(home), name)
		info, err := os.Lstat(folder)
		if err != nil || !info.IsDir() { // removed since, or a link
			continue
		}
		if _, err := r.folder(folder, info.Sys().(*syscall.Stat_t).Uid); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	for _, holds := range r.found {
		slices.SortFunc(holds, func(a, b policy.Hold) int {
			return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.PID, b.PID), cmp.Compare(a.Reason, b.Reason))
		})
	}
	return r.found, nil
}

type reader struct {
	domain string // "" for all
	now    time.Time
	found  map[string][]policy.Hold
}

// folder reads the holds in a folder, whose files must be root's or the owner's. It returns the
// names of the folders in it. Of a folder with too many files only some count: an owner who is not
// root must not be able to make each stop a fault.
func (r *reader) folder(name string, owner uint32) (folders []string, err error) {
	d, err := os.OpenRoot(name)
	if err != nil {
		return nil, systemFailure(name, err)
	}
	defer d.Close()
	f, err := d.Open(".")
	if err != nil {
		return nil, systemFailure(name, err)
	}
	defer f.Close()
	entries, err := f.ReadDir(maxNames + 1)
	if err != nil && err != io.EOF {
		return nil, systemFailure(name, err)
	}
	if len(entries) > maxNames && owner == uint32(os.Geteuid()) {
		return nil, failure(fmt.Sprintf("%s: holds more than %d files", name, maxNames), "remove those that no process has")
	}
	about := map[string]int{} // files, by domain
	for _, entry := range entries {
		id, _, _ := strings.Cut(entry.Name(), ".")
		switch {
		case entry.IsDir():
			folders = append(folders, entry.Name())
		case !entry.Type().IsRegular() || !uuid.IsCanonical(id) || r.domain != "" && id != r.domain: // foreign, without its name yet, or another domain's
		case about[id] == maxHolds:
			r.surplus(id, name)
			about[id]++
		case about[id] < maxHolds:
			r.file(d, name, entry.Name(), id, owner)
			about[id]++
		}
	}
	return folders, nil
}

// file adds a hold, if a process has it.
func (r *reader) file(d *os.Root, folder, name, domain string, owner uint32) {
	f, err := d.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if errors.Is(err, fs.ErrNotExist) { // it has ended
		return
	}
	if err != nil {
		r.doubtful(domain, filepath.Join(folder, name), err)
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return
	}
	by := info.Sys().(*syscall.Stat_t).Uid
	if by != 0 && by != owner {
		return // its owner may not hold domains
	}
	isLocked, err := isLockHeld(int(f.Fd()))
	if err == nil && !isLocked {
		return
	}
	data, read := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err = errors.Join(err, read); err == nil && len(data) > maxFile {
		err = fmt.Errorf("is longer than %d bytes", maxFile)
	}
	var c content
	if err == nil {
		c, err = decode(data)
	}
	if err == nil && c.Domain != domain {
		err = fmt.Errorf("is about the domain %s", c.Domain)
	}
	if err != nil {
		r.doubtful(domain, filepath.Join(folder, name), err)
		return
	}
	if !c.Until.IsZero() && !r.now.Before(c.Until) {
		return
	}
	r.found[domain] = append(r.found[domain], policy.Hold{
		Holder: holder(by), PID: c.PID, Reason: c.Reason, Since: c.Since, Until: c.Until, Operations: c.Operations,
	})
}

// surplus adds one hold for the files about a domain that are too many to be read: an owner who is
// not root must not be able to make a decision late. It protects against every operation, and a
// ticket lifts it.
func (r *reader) surplus(domain, folder string) {
	r.found[domain] = append(r.found[domain], policy.Hold{
		Holder: "unknown", Reason: fmt.Sprintf("%s has more than %d files about this domain, which were not read; remove those that no process has", folder, maxHolds),
		Since: r.now.UTC().Truncate(time.Second), Operations: policy.Operations(),
	})
}

// doubtful adds a hold of which nothing is known: it protects against every operation, and a ticket
// lifts it.
func (r *reader) doubtful(domain, path string, err error) {
	what, _ := problem.Split(err)
	r.found[domain] = append(r.found[domain], policy.Hold{
		Holder: "unknown", Reason: fmt.Sprintf("%s cannot be read (%s)", path, strings.TrimPrefix(what, "hold: ")),
		Since: r.now.UTC().Truncate(time.Second), Operations: policy.Operations(),
	})
}

func holder(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return "uid " + id
}
