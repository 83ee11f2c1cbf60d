package ticket

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/stopguard/stopguard/internal/hostfile"
	"github.com/stopguard/stopguard/internal/problem"
	"github.com/stopguard/stopguard/policy"
)

// home is the folder of the tickets. In it are
//
//	ID.json                     a ticket
//	ID.taken                    the claim on it
//	ID.UUID.PID.START.taken     an incarnation's claim on a ticket for the whole host
//	.tmp-RANDOM                 a file that is being written
//
// A ticket is never changed, and its ID is never used again. A claim appears as a whole, and only
// its time of use is added later. A ticket is removed before its claims, and Take looks for the
// ticket again after it has made a claim. Otherwise Take could claim a ticket whose earlier claim
// was removed.
const home = "/var/lib/stopguard/tickets"

const (
	maxNames   = 20_000 // files in the folder
	maxTickets = 1_000

	// retention is how long an expired ticket is listed.
	retention = 7 * 24 * time.Hour
)

// step is called where a process might be killed. Tests kill it there.
var step = func(point string) {}

// folder is the open folder of the tickets.
type folder struct {
	*os.Root // names stay in this folder, wherever it is moved to
	host     hostfile.Root
	path     string // for messages
}

// open opens the folder, and returns nil if it does not exist. hostfile checks who may change it
// and the folders above it. If only root can change them, they cannot be exchanged between the
// check and the opening either.
func (s Store) open() (*folder, error) {
	f := &folder{host: hostfile.Root(s.Root), path: filepath.Join(s.base(), home)}
	if err := f.host.Judge(home); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, foreign(err)
	}
	var err error
	f.Root, err = os.OpenRoot(s.Root + home)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, f.failure("", err)
	}
	return f, nil
}

// create makes the folder if it is missing.
func (s Store) create() error {
	if err := hostfile.Root(s.Root).Judge("/"); err != nil {
		return foreign(err)
	}
	r, err := os.OpenRoot(s.base())
	if err != nil {
		return foreign(err)
	}
	defer r.Close()
	name := "."
	for element := range strings.SplitSeq(home[1:], "/") {
		parent := name
		name = filepath.Join(name, element)
		mode := fs.FileMode(0o755)
		if name == home[1:] {
			mode = 0o700
		}
		err := r.Mkdir(name, mode)
		if err == nil {
			err = sync(r, parent)
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return (&folder{path: filepath.Join(s.base(), name)}).failure("", err)
		}
	}
	return nil
}

func (s Store) base() string {
	if s.Root == "" {
		return "/"
	}
	return s.Root
}

// foreign returns an error of package hostfile as one of this package.
func foreign(err error) error {
	return problem.Prefix("ticket: ", err, "correct this and try again")
}

// errno returns the kernel's error without the path that package os puts before it.
func errno(err error) error {
	if n, ok := errors.AsType[syscall.Errno](err); ok {
		return n
	}
	return err
}

// failure returns the kernel's error about a file in the folder, or about the folder if name is "".
func (f *folder) failure(name string, err error) error {
	cure := "correct this and try again"
	switch {
	case errors.Is(err, fs.ErrPermission):
		cure = "run as root"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		cure = "make room on the disk"
	case errors.Is(err, syscall.EROFS):
		cure = "mount it writable"
	}
	return caused(show(filepath.Join(f.path, name))+": "+errno(err).Error(), cure, err)
}

// show returns a path for a message, quoted if it is not printable.
func show(path string) string {
	if printable(path) {
		return path
	}
	return fmt.Sprintf("%q", path)
}

// contents holds the names of the files in the folder.
type contents struct {
	ids    []string            // of tickets, sorted
	claims map[string][]string // of each ID
	temps  []string
	other  []string
}

func (f *folder) list() (contents, error) {
	c := contents{claims: map[string][]string{}}
	d, err := f.Open(".")
	if err != nil {
		return c, f.failure("", err)
	}
	defer d.Close()
	for n := 0; ; {
		names, err := d.Readdirnames(1000)
		if err != nil && err != io.EOF {
			return c, f.failure("", err)
		}
		for _, name := range names {
			c.add(name)
		}
		if n += len(names); n > maxNames {
			return c, failure(fmt.Sprintf("%s: holds more than %d files, and so no ticket counts", show(f.path), maxNames), "revoke what is not needed, and move out what does not belong there")
		}
		if err == io.EOF {
			break
		}
	}
	if len(c.ids) > maxTickets {
		return c, failure(fmt.Sprintf("%s: holds more than %d tickets, and so none counts", show(f.path), maxTickets), "revoke what is not needed")
	}
	slices.Sort(c.ids)
	slices.Sort(c.other)
	for _, names := range c.claims {
		slices.Sort(names)
	}
	return c, nil
}

func (c *contents) add(name string) {
	id, rest, _ := strings.Cut(name, ".")
	switch {
	case strings.HasPrefix(name, ".tmp-"):
		c.temps = append(c.temps, name)
	case isID(id) && rest == "json":
		c.ids = append(c.ids, id)
	case isID(id) && (rest == "taken" || strings.HasSuffix(rest, ".taken")):
		c.claims[id] = append(c.claims[id], name)
	default:
		c.other = append(c.other, name)
	}
}

// report returns an error about the files that do not belong in the folder.
func (c contents) report(f *folder) []error {
	if len(c.other) == 0 {
		return nil
	}
	more := ""
	if n := len(c.other) - 1; n > 0 {
		more = fmt.Sprintf(", nor are %d others beside it", n)
	}
	return []error{failure(show(filepath.Join(f.path, c.other[0]))+": is no ticket"+more, "move away what does not belong there")}
}

// ticket reads a ticket. The error is fs.ErrNotExist if it was removed.
func (f *folder) ticket(id string) (Ticket, error) {
	name := id + ".json"
	data, err := f.host.Read(home+"/"+name, maxFile)
	if err != nil {
		return Ticket{}, foreign(err)
	}
	t, err := decode(data)
	if err == nil && t.ID != id {
		err = fmt.Errorf("holds the ticket %s", t.ID)
	}
	if err != nil {
		return Ticket{}, failure(show(filepath.Join(f.path, name))+": "+err.Error()+", and so it is no ticket", "revoke it, and grant another one")
	}
	return t, nil
}

// claimName returns the name of the file by which an incarnation holds a ticket.
func (t Ticket) claimName(in policy.Incarnation) string {
	if t.HostWide() {
		return fmt.Sprintf("%s.%s.%d.%d.taken", t.ID, in.UUID, in.PID, in.Start)
	}
	return t.ID + ".taken"
}

// claim reads a claim on the ticket. The error is fs.ErrNotExist if the file does not exist.
func (f *folder) claim(t Ticket, name string) (claim, error) {
	data, err := f.host.Read(home+"/"+name, maxFile)
	if err != nil {
		return claim{}, foreign(err)
	}
	c, err := decodeClaim(data)
	if err == nil && (c.Ticket != t.ID || t.claimName(c.incarnation()) != name || !t.HostWide() && c.UUID != t.Domain) {
		err = errors.New("is a claim on something else")
	}
	if err != nil {
		return claim{}, failure(show(filepath.Join(f.path, name))+": "+err.Error()+", and so it is not known who holds the ticket", "revoke the ticket, and grant another one")
	}
	return c, nil
}

// put writes a file as a whole and syncs it. Unless replace is set, the error is fs.ErrExist if the
// name is taken, and one of any number of processes gets the name.
func (f *folder) put(name string, data []byte, replace bool) error {
	temp := ".tmp-" + rand.Text()
	w, err := f.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return f.failure(temp, err)
	}
	defer f.Remove(temp)
	step("temporary file created")
	if err := write(w, data); err != nil {
		return f.failure(temp, err)
	}
	step("temporary file written")
	if replace {
		err = f.Rename(temp, name)
	} else {
		err = f.Link(temp, name) // and not a rename, which replaces
	}
	if err != nil {
		return f.failure(name, err)
	}
	step("file there")
	f.Remove(temp)
	step("temporary file removed")
	if err := sync(f.Root, "."); err != nil {
		return f.failure(name, err)
	}
	step("folder synced")
	return nil
}

func write(w *os.File, data []byte) error {
	_, err := w.Write(data)
	return errors.Join(err, w.Chmod(0o600), w.Sync(), w.Close()) // Chmod: a umask may have cleared permissions
}

// sync syncs the names in a folder to disk.
func sync(r *os.Root, name string) error {
	d, err := r.Open(name)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// remove removes a ticket, and then its claims.
func (f *folder) remove(id string, claims []string) error {
	if err := f.Remove(id + ".json"); err != nil {
		return f.failure(id+".json", err)
	}
	step("ticket removed")
	if err := sync(f.Root, "."); err != nil {
		return f.failure("", err)
	}
	for _, name := range claims {
		if err := f.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return f.failure(name, err)
		}
	}
	return nil
}

// sweep removes tickets that expired long ago and files that killed processes left behind.
func (f *folder) sweep(c contents, now time.Time) {
	for _, id := range c.ids {
		if t, err := f.ticket(id); err == nil && now.Sub(t.NotAfter) > retention {
			f.remove(id, c.claims[id])
		}
	}
	for id, names := range c.claims {
		// The ticket may have been granted and claimed while the folder was listed. If it is
		// missing now, it is missing for good.
		if _, err := f.Lstat(id + ".json"); errors.Is(err, fs.ErrNotExist) {
			for _, name := range names {
				f.Remove(name)
			}
		}
	}
	for _, name := range c.temps {
		if st, err := f.Lstat(name); err == nil && time.Since(st.ModTime()) > time.Hour {
			f.Remove(name)
		}
	}
}
