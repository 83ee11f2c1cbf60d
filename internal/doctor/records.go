package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stopguard/stopguard/internal/hostfile"
	"github.com/stopguard/stopguard/policy/record"
	"github.com/stopguard/stopguard/policy/ticket"
)

// minFree is the free space that the record should have, in bytes.
const minFree = 16 << 20

func (d *doctor) checkTickets() {
	_, reports := ticket.Store{Root: d.Root}.List(time.Now())
	if len(reports) == 0 {
		d.ok("tickets", "each can be read")
		return
	}
	more := ""
	if len(reports) > 1 {
		more = fmt.Sprintf(" (and %d more)", len(reports)-1)
	}
	d.addError(severityWarning, "tickets", fmt.Errorf("what cannot be read lifts nothing%s: %w", more, reports[0]))
}

func (d *doctor) checkRecords() {
	folder := path.Dir(record.File)
	err := hostfile.Root(d.Root).Judge(folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.addError(severityWarning, "record", fmt.Errorf("decisions may be lost or forged: %w", err))
		return
	}
	if err := d.recordFault(); err != nil {
		d.addError(severityWarning, "record", err)
		return
	}
	d.ok("record", "%s", d.Path(record.File))
	existing := d.Path(folder)
	for !isFolder(existing) {
		existing = filepath.Dir(existing)
	}
	switch free, err := d.free(existing); {
	case err != nil:
		d.unknown("record-space", "look at its disk", "how much room %s has cannot be told: %v", existing, err)
	case free < minFree:
		d.warning("record-space", "make room there", "%s has room for %d KiB only", existing, free>>10)
	default:
		d.ok("record-space", "%d MiB", free>>20)
	}
}

// recordFault returns the error that prevents a record from being written.
func (d *doctor) recordFault() error {
	const cure = "; correct this, for stops are decided and not recorded"
	file := d.Path(record.File)
	info, err := os.Lstat(file)
	switch {
	case err == nil && info.Mode().Type() == fs.ModeSymlink:
		return errors.New(file + " is a link, and links are not followed" + cure)
	case err == nil && !info.Mode().IsRegular():
		return errors.New(file + " is not a regular file" + cure)
	case err == nil:
		if err := unix.Access(file, unix.W_OK); err != nil {
			return fmt.Errorf("%s cannot be written: %w"+cure, file, err)
		}
	}
	// The folder has to be writable, too, because a file that is too large is renamed. If the
	// folder is missing, the one above it counts.
	for folder := filepath.Dir(file); ; folder = filepath.Dir(folder) {
		err := unix.Access(folder, unix.W_OK|unix.X_OK)
		if err == unix.ENOENT && folder != "/" {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s cannot be written: %w"+cure, folder, err)
		}
		return nil
	}
}

func isFolder(name string) bool {
	info, err := os.Stat(name)
	return name == "/" || err == nil && info.IsDir()
}
