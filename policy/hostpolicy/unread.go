package hostpolicy

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/stopguard/stopguard/internal/hostpath"
	"github.com/stopguard/stopguard/internal/persisted"
	"github.com/stopguard/stopguard/internal/problem"
)

const ownFolder = "/etc/stopguard"

// ownFiles are the files that stopguard's programs read in /etc/stopguard.
var ownFiles = []string{hostpath.Policy, hostpath.Bundle, hostpath.Key, persisted.ConfigFile, ownFolder + "/gate.conf", ownFolder + "/gate-off"}

// neighbours are folders in which a policy or a list was probably put by mistake.
var neighbours = []string{"/etc", "/etc/libvirt", "/etc/libvirt/hooks", "/etc/libvirt/qemu", "/usr/local/etc", "/usr/local/etc/stopguard", "/etc/stopguard.d", "/var/lib/stopguard"}

// Unread returns a warning for each file that looks like a part of the host's policy and is not
// read: /etc/stopguard/mine.rego, a hidden file among the rules, a list or a bundle of another
// name.
func Unread(root string) []error {
	root = hostpath.Root(root)
	var warnings []error
	warn := func(name, cure string) {
		warnings = append(warnings, &problem.Error{What: name + " is not read", Cure: cure})
	}
	mentioned := mentionedFiles(root)
	for _, entry := range list(root, ownFolder) {
		name := path.Join(ownFolder, entry.Name())
		if slices.Contains(ownFiles, name) || isBackup(entry.Name()) || strings.HasPrefix(entry.Name(), ".") && !isPolicyFile(entry.Name()) || mentioned(name) {
			continue
		}
		warn(name, cureFor(entry))
	}
	for _, name := range hiddenPolicy(root) {
		warn(name, "name it without a dot at the beginning, or remove it")
	}
	_, err := os.Lstat(onHost(root, hostpath.List))
	for _, folder := range neighbours {
		for _, entry := range list(root, folder) {
			name := path.Join(folder, entry.Name())
			if name == hostpath.List || name == ownFolder {
				continue
			}
			switch {
			case isListName(entry.Name()) && (err != nil || !isBackup(entry.Name())):
				warn(name, "move its entries into "+hostpath.List+", or remove it")
			case strings.HasSuffix(entry.Name(), ".rego"):
				warn(name, "move it into "+hostpath.Policy+", or remove it")
			}
		}
	}
	return warnings
}

func cureFor(entry fs.DirEntry) string {
	name := entry.Name()
	switch {
	case isListName(name):
		return "move its entries into " + hostpath.List + ", or remove it"
	case strings.HasPrefix(name, "agent."):
		return "name the agent's configuration " + persisted.ConfigFile + ", or remove it"
	case entry.IsDir(), isPolicyFile(name):
		return "move rules and settings into " + hostpath.Policy + ", or remove it"
	case slices.ContainsFunc([]string{".tgz", ".tar", ".tar.gz", ".gz"}, func(ending string) bool { return strings.HasSuffix(name, ending) }):
		return "name a bundle " + hostpath.Bundle + ", or remove it"
	case slices.ContainsFunc([]string{".pem", ".pub", ".key"}, func(ending string) bool { return strings.HasSuffix(name, ending) }):
		return "name the bundle's public key " + hostpath.Key + ", or remove it"
	}
	return "move it elsewhere, or remove it"
}

// isPolicyFile reports whether a file looks like a rule, settings or a schema.
func isPolicyFile(name string) bool {
	switch path.Ext(strings.ToLower(name)) {
	case ".rego", ".json", ".yaml", ".yml":
		return true
	}
	return false
}

// isListName reports whether a file is named like the protected list, whatever stands between the
// words.
func isListName(name string) bool {
	letters := strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' {
			return r
		}
		return -1
	}, strings.ToLower(name))
	return strings.Contains(letters, "protecteddomain") || strings.Contains(letters, "protectdomain")
}

// isBackup reports whether an editor or a package manager has put a file beside the one that it is
// named after.
func isBackup(name string) bool {
	for _, ending := range []string{"~", ".bak", ".old", ".orig", ".swp", ".save", ".rpmsave", ".rpmnew", ".rpmorig", ".dpkg-old", ".dpkg-dist", ".dpkg-new", ".dpkg-bak", ".ucf-old", ".ucf-dist"} {
		if strings.HasSuffix(name, ending) {
			return true
		}
	}
	return false
}

// hiddenPolicy returns the files in the policy folder that look like policy, and are passed over
// because their names, or those of folders above them, begin with a dot.
func hiddenPolicy(root string) []string {
	const enough = 10_000
	var found []string
	seen := 0
	base := onHost(root, hostpath.Policy)
	_ = filepath.WalkDir(base, func(file string, entry fs.DirEntry, err error) error { // what cannot be read is an error of Load
		if seen++; err != nil || seen > enough {
			return fs.SkipAll
		}
		rel, err := filepath.Rel(base, file)
		if err != nil || rel == "." || entry.IsDir() || !isHiddenPolicy(filepath.ToSlash(rel)) {
			return nil
		}
		found = append(found, path.Join(hostpath.Policy, filepath.ToSlash(rel)))
		return nil
	})
	return found
}

// isHiddenPolicy reports whether a file of the policy folder looks like policy and is passed over.
func isHiddenPolicy(rel string) bool {
	folder, base := path.Split(rel)
	switch {
	case base == ".signatures.json", isBackup(base): // of an unpacked bundle, of an editor
		return false
	case strings.HasPrefix(base, "."):
		return isPolicyFile(base)
	case strings.HasPrefix(folder, "."), strings.Contains(folder, "/."):
		return strings.HasSuffix(base, ".rego") || base == "data.json" || base == "data.yaml"
	}
	return false
}

// mentionedFiles returns a function that reports whether the agent or the gate is configured to
// read a file.
func mentionedFiles(root string) func(name string) bool {
	var text strings.Builder
	for _, file := range []string{persisted.ConfigFile, ownFolder + "/gate.conf"} {
		content, err := os.ReadFile(onHost(root, file))
		if err == nil {
			text.Write(content)
		}
	}
	return func(name string) bool { return strings.Contains(text.String(), name) }
}

// list returns the entries of a folder; none if it cannot be read.
func list(root, folder string) []fs.DirEntry {
	entries, _ := os.ReadDir(onHost(root, folder))
	return entries
}
