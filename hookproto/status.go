package hookproto

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

const (
	maxStatusHead  = 1 << 20 // bytes before the UUID of the domain; libvirt writes some 20,000
	maxStatusTail  = 256     // bytes in which the file must end
	maxStatusDepth = 256     // libvirt's own parser refuses more
	storedDepth    = 5       // elements deeper than this are not stored
)

// Status is the part of libvirt's status file (/run/libvirt/qemu/NAME.xml) that a hook's XML does
// not have. The zero value means that it is unknown. The file also holds passwords: only values in
// the forms that libvirt writes are stored.
type Status struct {
	State     string     // State is the domain's state: "running", "paused", "shutdown", "crashed" and so on.
	Reason    string     // Reason is the reason for that state: "booted", "user", "panicked" and so on.
	Monitor   string     // Monitor is the path of the monitor's Unix socket.
	Job       string     // Job is the running asynchronous job: "migration out", "backup" and so on; "" if there is none.
	BlockJobs []BlockJob // BlockJobs are the jobs on its disks, in the file's order.
	Name      string     // Name is the domain's name.
	UUID      string     // UUID is the domain's UUID, as the file spells it.
	ID        int        // ID is the running domain's ID; 0 if the file does not have it.
}

// BlockJob is a job that libvirt runs on a disk.
type BlockJob struct {
	Type string // Type is "copy", "active-commit", "commit", "pull", "backup" and so on.
	Disk string // Disk is the target's name, such as "vda"; "" for a job without a disk.
}

// statusFile is the parsed part of a status file: up to the domain's UUID. The texts of the guest's
// owner follow it, which may have any size.
type statusFile struct {
	Status
	pid        int
	vcpus      []int  // the thread IDs of the virtual CPUs
	fakeReboot bool   // the guest shuts down in order to be reset
	domainAt   int    // the offset of the <domain> element in the file
	data       []byte // the file's content up to maxStatusHead; it holds secrets
	size       int64  // of the file
}

// status parses the status file. It is an error if the file is about another domain.
func (d stateDir) status(name string) (statusFile, error) {
	head, tail, size, err := d.readEnds(name+".xml", maxStatusHead, maxStatusTail)
	if err != nil {
		return statusFile{}, fmt.Errorf("the status file cannot be read: %w", err)
	}
	s, err := parseStatus(head, tail)
	if err != nil {
		return statusFile{}, fmt.Errorf("the status file cannot be read: %w", err)
	}
	s.data, s.size = head, size
	if s.Name != WrittenName(name) {
		return statusFile{}, errors.New("the status file is about another domain")
	}
	return s, nil
}

const (
	lower  = "abcdefghijklmnopqrstuvwxyz"
	upper  = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digits = "0123456789"
	blanks = " \t\r\n"
)

// The forms of values. They are not regular expressions, which every stop would have to compile.

func isWord(s string) bool {
	return s != "" && len(s) <= 40 && consistsOf(s[:1], lower) && consistsOf(s, lower+digits+" _-")
}

func isDisk(s string) bool { return s != "" && len(s) <= 40 && consistsOf(s, lower+upper+digits+"_-") }

func isMonitorPath(s string) bool {
	dir, ok := strings.CutSuffix(s, "/monitor.sock")
	return ok && strings.HasPrefix(dir, "/") && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

func isUUID(s string) bool {
	parts := strings.Split(s, "-")
	for i, n := range []int{8, 4, 4, 4, 12} {
		if len(parts) != 5 || len(parts[i]) != n || !consistsOf(parts[i], digits+"abcdefABCDEF") {
			return false
		}
	}
	return true
}

func consistsOf(s, characters string) bool { return strings.Trim(s, characters) == "" }

var errNoStatus = errors.New("it is not a status file of libvirt")

// parseStatus parses the head of a file whose tail shows that the file is complete. It stores an
// element only by its exact path: a guest's owner writes metadata, in which any element may be
// called <domstatus>. A value of an unknown form is an error and never quoted: the file holds
// passwords.
func parseStatus(head, tail []byte) (statusFile, error) {
	if domainEnd(tail) < 0 {
		return statusFile{}, errNoStatus
	}
	data := withoutCapabilities(head)
	s, err := parseElements(&plainTokens{text: string(data)})
	if err != nil {
		s, err = parseElements(xml.NewDecoder(bytes.NewReader(data))) // its errors are returned
	}
	s.domainAt += len(head) - len(data)
	return s, err
}

// domainEnd returns the offset behind the <domain> element at the end of a status file; -1 if the
// file ends otherwise, such as a torn file.
func domainEnd(data []byte) int {
	rest, isRoot := bytes.CutSuffix(bytes.TrimRight(data, blanks), []byte("</domstatus>"))
	rest = bytes.TrimRight(rest, blanks)
	if !isRoot || !bytes.HasSuffix(rest, []byte("</domain>")) {
		return -1
	}
	return len(rest)
}

// domain returns the <domain> element of a file's content. It holds secrets.
func (s statusFile) domain(data []byte) []byte {
	end := domainEnd(data)
	if s.domainAt > end {
		return nil
	}
	return data[s.domainAt:end]
}

type tokens interface {
	Token() (xml.Token, error)
	InputOffset() int64 // of the next token
}

// parseElements stops at the UUID. The metadata follows it, in which a guest's owner may write
// names of newer alphabets: libvirt's parser accepts them, encoding/xml does not. The error would
// hide that the guest is off.
func parseElements(from tokens) (statusFile, error) {
	var (
		s    statusFile
		path []string // the path of each open element; at storedDepth and deeper, that of its ancestor
		text strings.Builder
		seen = map[string]bool{}
	)
	for s.Name == "" || s.UUID == "" {
		offset := from.InputOffset()
		token, err := from.Token()
		if err != nil {
			return statusFile{}, errNoStatus
		}
		switch token := token.(type) {
		case xml.StartElement:
			at := token.Name.Local
			if depth := len(path); depth > 0 && depth < storedDepth {
				at = path[depth-1] + "/" + at
			} else if depth > 0 {
				at = path[depth-1]
			}
			if path = append(path, at); len(path) > maxStatusDepth {
				return statusFile{}, errNoStatus
			}
			if once := singular[at]; len(path) <= 3 && once {
				if seen[at] || token.Name.Space != "" {
					return statusFile{}, errNoStatus
				}
				seen[at] = true
			}
			if at == "domstatus/domain" && len(path) == 2 {
				s.domainAt = int(offset)
			}
			if err := s.element(at, len(path), token.Attr); err != nil {
				return statusFile{}, err
			}
			text.Reset()
		case xml.CharData:
			text.Write(token)
		case xml.EndElement:
			switch path[len(path)-1] {
			case "domstatus/domain/name":
				s.Name = text.String()
			case "domstatus/domain/uuid":
				if s.UUID = text.String(); !isUUID(s.UUID) {
					return statusFile{}, errNoStatus
				}
			}
			path = path[:len(path)-1]
		}
	}
	if s.State == "" || s.pid == 0 || s.Name == "" || s.UUID == "" {
		return statusFile{}, errNoStatus
	}
	return s, nil
}

// withoutCapabilities leaves out the list of QEMU's capabilities: two hundred elements before the
// domain that are not stored and take most of the parsing time. They are left out only if all have
// the one form that libvirt writes.
func withoutCapabilities(data []byte) []byte {
	head, list, found := bytes.Cut(data, []byte("<qemuCaps>"))
	if !found || bytes.Contains(head, []byte("<domain")) || bytes.Contains(head, []byte("<![")) ||
		bytes.Count(head, []byte("<!--")) != bytes.Count(head, []byte("-->")) {
		return data
	}
	const opens, closes, ends = "<flag name='", "'/>", "</qemuCaps>"
	for {
		for len(list) > 0 && (list[0] == ' ' || list[0] == '\n') {
			list = list[1:]
		}
		if rest, end := bytes.CutPrefix(list, []byte(ends)); end {
			return slices.Concat(head, rest)
		}
		name, opened := bytes.CutPrefix(list, []byte(opens))
		size := 0
		for size < len(name) && inFlag[name[size]] {
			size++
		}
		rest, closed := bytes.CutPrefix(name[size:], []byte(closes))
		if !opened || !closed {
			return data
		}
		list = rest
	}
}

// inFlag maps each byte to whether it may be in a flag's name.
var inFlag = func() (in [256]bool) {
	for _, c := range []byte(lower + upper + digits + "_.+-") {
		in[c] = true
	}
	return in
}()

// singular lists the elements that libvirt writes once. A second one is not libvirt's.
var singular = map[string]bool{
	"domstatus":             true,
	"domstatus/monitor":     true,
	"domstatus/job":         true,
	"domstatus/blockjobs":   true,
	"domstatus/domain":      true,
	"domstatus/domain/name": true,
	"domstatus/domain/uuid": true,
}

func (s *statusFile) element(at string, depth int, attrs []xml.Attr) (err error) {
	value := func(name string, isForm func(string) bool) string {
		i := slices.IndexFunc(attrs, func(a xml.Attr) bool { return a.Name.Space == "" && a.Name.Local == name })
		if i < 0 || attrs[i].Value == "" {
			return ""
		}
		if isForm != nil && !isForm(attrs[i].Value) {
			err = fmt.Errorf("its %s has an unknown form", name)
			return ""
		}
		return attrs[i].Value
	}
	switch {
	case at == "domstatus" && depth == 1:
		s.State, s.Reason = value("state", isWord), value("reason", isWord)
		if s.pid, _ = strconv.Atoi(value("pid", nil)); s.pid <= 0 {
			return errNoStatus
		}
	case at == "domstatus/vcpus/vcpu" && depth == 3:
		if thread, _ := strconv.Atoi(value("pid", nil)); thread > 0 {
			s.vcpus = append(s.vcpus, thread)
		}
	case at == "domstatus/fakereboot" && depth == 2:
		s.fakeReboot = true
	case at == "domstatus/monitor" && depth == 2:
		if value("type", isWord) == "unix" {
			s.Monitor = value("path", isMonitorPath)
		}
	case at == "domstatus/job" && depth == 2:
		// The job's type is the current request, such as this very stop.
		if job := value("async", isWord); job != "none" {
			s.Job = job
		}
	case at == "domstatus/blockjobs/blockjob" && depth == 3:
		s.BlockJobs = append(s.BlockJobs, BlockJob{Type: value("type", isWord)})
	case at == "domstatus/blockjobs/blockjob/disk" && depth == 4:
		s.BlockJobs[len(s.BlockJobs)-1].Disk = value("dst", isDisk)
	case at == "domstatus/domain" && depth == 2:
		s.ID, _ = strconv.Atoi(value("id", nil))
	}
	return err
}
