package main

import (
	"crypto/sha256"
	"encoding/binary"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A fingerprint tells whether files have changed since they were read, without reading them: of each, its path, inode, size,
// mode, owner, and the times of its change.
type fingerprint [sha256.Size]byte

// What policy.HostFiles reads.
var hostFiles = []string{
	"/etc/libvirt/protected-domains", "/etc/stopguard/bundle.tar.gz", "/etc/stopguard/bundle.pem", "/etc/stopguard/policy",
}

// fingerprintOf looks at the host's own files, and at the folders that lead to them.
func fingerprintOf(root string) fingerprint {
	var l look
	for _, name := range []string{"/", "/etc", "/etc/libvirt", "/etc/stopguard"} {
		l.at(filepath.Join("/", root, name))
	}
	for _, name := range hostFiles {
		l.below(filepath.Join("/", root, name))
	}
	return sha256.Sum256(l.seen)
}

// fingerprintOfTree looks at a file, or at a folder and all below it.
func fingerprintOfTree(path string) fingerprint {
	var l look
	l.below(path)
	return sha256.Sum256(l.seen)
}

// A look is what was seen of files.
type look struct{ seen []byte }

func (l *look) at(path string) {
	l.seen = append(append(l.seen, path...), 0)
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		l.seen = append(l.seen, err.Error()...)
		return
	}
	fields := []uint64{uint64(st.Dev), st.Ino, uint64(st.Mode), uint64(st.Uid), uint64(st.Gid)}
	if st.Mode&unix.S_IFMT == unix.S_IFREG {
		fields = append(fields, uint64(st.Size), uint64(st.Mtim.Nano()), uint64(st.Ctim.Nano()))
	}
	for _, f := range fields {
		l.seen = binary.BigEndian.AppendUint64(l.seen, f)
	}
}

// below looks at a file, or at a folder and all below it.
func (l *look) below(path string) {
	l.at(path)
	entries, err := os.ReadDir(path)
	if err != nil {
		return // no folder, or gone
	}
	for _, entry := range entries {
		if child := filepath.Join(path, entry.Name()); entry.IsDir() {
			l.below(child)
		} else {
			l.at(child)
		}
	}
}
