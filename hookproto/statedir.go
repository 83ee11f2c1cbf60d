package hookproto

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
)

const maxPIDFile = 64 // bytes

// stateDir is libvirt's state directory, held open: whether a file is missing from it is
// then not mixed up with whether it is there itself.
type stateDir struct{ file *os.File }

// runDirs are tried in this order; the second is for systems whose /var/run is no link.
var runDirs = []string{"/run/libvirt/", "/var/run/libvirt/"}

func (h Host) path(p string) string { return strings.TrimRight(h.Root, "/") + p }

func (h Host) openState() (stateDir, error) {
	var first error
	for _, run := range runDirs {
		fd, err := syscall.Open(h.path(run+"qemu"), syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
		if err == nil {
			return stateDir{os.NewFile(uintptr(fd), run)}, nil
		}
		if first == nil {
			first = err
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return stateDir{}, err
		}
	}
	return stateDir{}, first
}

func (d stateDir) close() { _ = d.file.Close() }

// read returns a regular file of at most limit bytes. O_NONBLOCK is for a FIFO in its place.
func (d stateDir) read(name string, limit int64) ([]byte, error) {
	if strings.Contains(name, "/") {
		return nil, syscall.EINVAL
	}
	fd, err := syscall.Openat(int(d.file.Fd()), name,
		syscall.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK|syscall.O_NOCTTY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "state file")
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	var data bytes.Buffer
	data.Grow(int(min(info.Size(), limit)) + bytes.MinRead) // else it would be read in many small parts
	if _, err := data.ReadFrom(io.LimitReader(f, limit+1)); err != nil {
		return nil, err
	}
	if int64(data.Len()) > limit {
		return nil, fmt.Errorf("it is larger than %d bytes", limit)
	}
	return data.Bytes(), nil
}

// pidName is what libvirt makes of a name in the path of a pid file, and of no other file: it
// escapes it as if it were XML (seen with 9.0.0).
var pidName = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "'", "&apos;")

func (d stateDir) pid(name string) (int, error) {
	if name == "" {
		return 0, syscall.EINVAL
	}
	data, err := d.read(pidName.Replace(name)+".pid", maxPIDFile)
	if errors.Is(err, fs.ErrNotExist) {
		data, err = d.read(name+".pid", maxPIDFile) // a libvirt that does not escape; Identify tells another domain's
	}
	if err != nil {
		return 0, err
	}
	pid, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 32)
	if err != nil || pid <= 0 {
		return 0, errors.New("it holds no process id")
	}
	return int(pid), nil
}
