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

// stateDir is libvirt's state directory as an open descriptor. A missing file can then not be
// mistaken for a missing directory.
type stateDir struct{ file *os.File }

// runDirs are tried in this order; the second is for systems whose /var/run is not a link.
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

// open opens a regular file. O_NONBLOCK keeps it from blocking on a FIFO in its place.
func (d stateDir) open(name string) (*os.File, int64, error) {
	if strings.Contains(name, "/") {
		return nil, 0, syscall.EINVAL
	}
	fd, err := syscall.Openat(int(d.file.Fd()), name,
		syscall.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK|syscall.O_NOCTTY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, 0, err
	}
	f := os.NewFile(uintptr(fd), "state file")
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is not a regular file")
	}
	if err != nil {
		_ = f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

// read returns a regular file of at most limit bytes.
func (d stateDir) read(name string, limit int64) ([]byte, error) {
	f, size, err := d.open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	data, err := readUpTo(f, size, limit+1)
	if err == nil && int64(len(data)) > limit {
		return nil, fmt.Errorf("it is larger than %d bytes", limit)
	}
	return data, err
}

// readEnds returns the size of a regular file, up to head bytes from its beginning and up to tail
// bytes from its end. The two may overlap.
func (d stateDir) readEnds(name string, head, tail int64) (first, last []byte, size int64, err error) {
	f, size, err := d.open(name)
	if err != nil {
		return nil, nil, 0, err
	}
	defer func() { _ = f.Close() }()
	if first, err = readUpTo(f, size, head); err != nil {
		return nil, nil, 0, err
	}
	if size <= int64(len(first)) {
		return first, first[max(0, int64(len(first))-tail):], size, nil
	}
	last = make([]byte, tail)
	n, err := f.ReadAt(last, size-tail)
	if err != nil && err != io.EOF {
		return nil, nil, 0, err
	}
	return first, last[:n], size, nil
}

func readUpTo(f *os.File, size, limit int64) ([]byte, error) {
	var data bytes.Buffer
	data.Grow(int(min(size, limit)) + bytes.MinRead) // otherwise it would be read in many small parts
	_, err := data.ReadFrom(io.LimitReader(f, limit))
	return replaceControls(data.Bytes()), err
}

// WrittenName returns a domain's name as [Event.XML] and [Host.Guests] return it. libvirt drops
// some control characters from XML. A question mark replaces those that it writes although XML does
// not allow them, and a carriage return is read as a line feed. virsh domrename accepts all of
// them.
func WrittenName(name string) string {
	name = strings.ReplaceAll(strings.ReplaceAll(withoutDropped(name), "\r\n", "\n"), "\r", "\n")
	return string(replaceControls([]byte(name)))
}

// replaceControls replaces each control character from 1a to 1f by a question mark. libvirt writes
// them unchanged, from a name or a title, and XML parsers do not accept them.
func replaceControls(xml []byte) []byte {
	for c := byte(0x1a); c <= 0x1f; c++ {
		for rest := xml; ; {
			i := bytes.IndexByte(rest, c)
			if i < 0 {
				break
			}
			rest[i] = '?'
			rest = rest[i+1:]
		}
	}
	return xml
}

// withoutDropped returns a name without the control characters that libvirt drops from XML and from
// the path of the pid file.
func withoutDropped(name string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && strings.ContainsRune(droppedCharacters, r) {
			return -1
		}
		return r
	}, name)
}

// droppedCharacters are the characters that virBufferEscapeString drops (libvirt 9.0.0,
// virbuffer.c).
const droppedCharacters = "\x01\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19"

// pidName escapes a name as libvirt does in the path of a pid file, and only there: as XML (seen
// with 9.0.0).
var pidName = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "'", "&apos;")

func (d stateDir) pid(name string) (int, error) {
	if name == "" {
		return 0, syscall.EINVAL
	}
	data, err := d.read(pidName.Replace(withoutDropped(name))+".pid", maxPIDFile)
	if errors.Is(err, fs.ErrNotExist) {
		data, err = d.read(name+".pid", maxPIDFile) // for a libvirt that does not escape; Identify detects another domain's file
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
