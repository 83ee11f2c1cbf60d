package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const selinuxFolder = "/sys/fs/selinux"

// An Answer is the answer to a question about the host: yes, no or unknown.
type Answer string

// The answers.
const (
	Yes     Answer = "yes"
	No      Answer = "no"
	Unknown Answer = "unknown"
)

// SELinuxEnforces reports whether SELinux is in use and enforces its policy.
func (h Host) SELinuxEnforces() (bool, error) {
	enforce, err := os.ReadFile(h.Path(selinuxFolder + "/enforce"))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return strings.TrimSpace(string(enforce)) == "1", err
}

// SELinuxLetsStart asks the kernel whether libvirt's daemons may start a file, by their labels and
// the file's. It is for a host on which SELinux enforces its policy. It returns the answer and its
// evidence.
func (h Host) SELinuxLetsStart(daemons []Process, file string) (Answer, string) {
	target, err := h.FileLabel(h.Path(file))
	if err != nil {
		return Unknown, fmt.Sprintf("the label of %s cannot be read: %v", h.Path(file), err)
	}
	if len(daemons) == 0 {
		return Unknown, "no daemon runs whose label could be asked about"
	}
	for _, daemon := range daemons {
		source := strings.Trim(h.Proc(daemon.PID, "attr/current"), "\x00\n ")
		if source == "" {
			return Unknown, fmt.Sprintf("the label of %s (process %d) cannot be read", daemon.Name, daemon.PID)
		}
		denied, err := h.deniedStart(source, target)
		if err != nil {
			return Unknown, err.Error()
		}
		if denied != "" {
			return No, fmt.Sprintf("SELinux denies %s (%s) to %s %s (%s)", daemon.Name, source, denied, h.Path(file), target)
		}
	}
	return Yes, "SELinux lets libvirt's daemon start it"
}

// FileLabel returns the SELinux label of a file.
func (h Host) FileLabel(path string) (string, error) {
	if h.Label != nil {
		return h.Label(path)
	}
	buffer := make([]byte, 256)
	n, err := unix.Getxattr(path, "security.selinux", buffer)
	if err != nil {
		return "", err
	}
	return strings.TrimRight(string(buffer[:n]), "\x00"), nil
}

// deniedStart returns a permission that a process does not have and needs to start a program, or
// "". A program runs either in the domain that the policy sets, or in that of the process that
// starts it.
func (h Host) deniedStart(source, target string) (string, error) {
	process, err := h.selinuxNumber("class/process/index")
	if err != nil {
		return "", err
	}
	domain, err := h.selinuxAsk("create", fmt.Sprintf("%s %s %d", source, target, process))
	if err != nil {
		return "", err
	}
	domain = strings.Trim(domain, "\x00\n ")
	wanted := []struct{ source, target, class, permission string }{
		{source, target, "file", "read"}, {source, target, "file", "open"}, {source, target, "file", "execute"},
		{source, target, "file", "execute_no_trans"},
	}
	if domain != source {
		wanted = append(wanted[:3], []struct{ source, target, class, permission string }{
			{source, domain, "process", "transition"}, {domain, target, "file", "entrypoint"},
		}...)
	}
	for _, w := range wanted {
		allowed, err := h.selinuxAllows(w.source, w.target, w.class, w.permission)
		if err != nil {
			return "", err
		}
		if !allowed {
			return w.permission, nil
		}
	}
	return "", nil
}

// permissiveDomain is the flag of an answer about a domain for which the policy is not enforced.
const permissiveDomain = 1

func (h Host) selinuxAllows(source, target, class, permission string) (bool, error) {
	index, err := h.selinuxNumber("class/" + class + "/index")
	if err != nil {
		return false, err
	}
	bit, err := h.selinuxNumber("class/" + class + "/perms/" + permission)
	if err != nil {
		return false, err
	}
	answer, err := h.selinuxAsk("access", fmt.Sprintf("%s %s %d", source, target, index))
	if err != nil {
		return false, err
	}
	var allowed, decided, audited, silent, sequence, flags uint32
	if n, _ := fmt.Sscanf(answer, "%x %x %x %x %d %x", &allowed, &decided, &audited, &silent, &sequence, &flags); n < 1 {
		return false, fmt.Errorf("SELinux answers %q, which is not understood", answer)
	}
	return allowed&(1<<(bit-1)) != 0 || flags&permissiveDomain != 0, nil
}

func (h Host) selinuxNumber(name string) (uint32, error) {
	content, err := os.ReadFile(h.Path(selinuxFolder + "/" + name))
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(content)), 10, 32)
	if err == nil && n == 0 {
		err = fmt.Errorf("%s is 0", h.Path(selinuxFolder+"/"+name))
	}
	return uint32(n), err
}

// selinuxAsk writes a question to a file of selinuxfs and reads the answer.
func (h Host) selinuxAsk(name, question string) (string, error) {
	if h.AskSELinux != nil {
		return h.AskSELinux(name, question)
	}
	f, err := os.OpenFile(h.Path(selinuxFolder+"/"+name), os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	if _, err := f.WriteString(question); err != nil {
		return "", err
	}
	answer := make([]byte, 4096)
	n, err := f.Read(answer)
	return string(answer[:n]), err
}

// IsNoexec reports whether the file system of a folder is mounted with noexec.
func (h Host) IsNoexec(folder string) bool {
	var s unix.Statfs_t
	return unix.Statfs(h.Path(folder), &s) == nil && s.Flags&unix.ST_NOEXEC != 0
}
