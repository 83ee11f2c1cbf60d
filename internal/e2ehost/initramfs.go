//go:build e2e

package e2ehost

import (
	"debug/elf"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// An initramfs is the first file system of a kernel: a cpio archive of the "newc" kind (see the
// kernel's documentation on the buffer format).
type initramfs struct {
	strings.Builder
	files int
}

const (
	typeDir  = 0o040000
	typeFile = 0o100000
)

func (a *initramfs) dir(name string) { a.add(name, typeDir|0o755, "") }

func (a *initramfs) file(name, content string, mode os.FileMode) {
	a.add(name, typeFile|int(mode.Perm()), content)
}

func (a *initramfs) add(name string, mode int, content string) {
	a.files++
	// The fields are the file's number, mode, owner, group, links, time, size, device (2), device
	// number (2), length of the name with its NUL, and a checksum that the kernel does not read.
	fmt.Fprintf(a, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		a.files, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name)+1, 0, name)
	a.fill()
	a.WriteString(content)
	a.fill()
}

// fill fills up to a word.
func (a *initramfs) fill() { a.WriteString(strings.Repeat("\x00", -a.Len()&3)) }

// done returns the archive.
func (a *initramfs) done() string {
	a.add("TRAILER!!!", 0, "")
	return a.String()
}

// libraries returns the files that the dynamic loading of a program needs: the loader under its own
// name, and every library in /lib, where the loader searches.
func libraries(program string) (map[string]string, error) {
	found := map[string]string{}
	for queue := []string{program}; len(queue) > 0; queue = queue[1:] {
		f, err := elf.Open(queue[0])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", queue[0], err)
		}
		defer f.Close()
		if loader := f.Section(".interp"); loader != nil {
			name, err := io.ReadAll(loader.Open())
			if err != nil {
				return nil, err
			}
			path := strings.TrimRight(string(name), "\x00")
			found[path] = path
		}
		names, err := f.ImportedLibraries()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", queue[0], err)
		}
		for _, name := range names {
			if inside := "/lib/" + name; found[inside] == "" {
				path, err := library(name)
				if err != nil {
					return nil, err
				}
				found[inside] = path
				queue = append(queue, path)
			}
		}
	}
	return found, nil
}

func library(name string) (string, error) {
	for _, dir := range []string{"/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64"} {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not on this machine; install what the package of the guest agent needs", name)
}
