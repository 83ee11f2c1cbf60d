// Package definition reads libvirt's definitions: the files from which its QEMU driver starts
// domains. A domain that is off has nothing else.
//
// A definition that cannot be read is never missing from what the package returns: it is there with
// its error.
package definition

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/internal/hostfile"
	"github.com/stopguard/stopguard/internal/problem"
)

// Folder is where libvirt keeps a file NAME.xml for each defined domain, whether it runs or not.
const Folder = "/etc/libvirt/qemu"

const (
	maxDefinitions = 10000
	maxXML         = 64 << 20 // bytes of all definitions together
)

// A Definition is a file of [Folder].
type Definition struct {
	Name   string            // the domain's; with Err the file's, without .xml
	Domain *domainxml.Domain // nil if Err is set
	XML    []byte            // the file's; nil if Err is set
	Err    error             // a problem.Error

	file string // without .xml
}

// All returns the definitions of a host, in the order of their files' names. A missing folder is
// not an error, as for libvirt, and neither is a file that vanishes after it was listed: the domain
// was undefined. A link has an error, although libvirt follows it.
//
// The error is about the folder: it cannot be listed, or holds more than 10000 definitions. The
// definitions that were found are returned with it. At most 64 MiB are read; each definition beyond
// has an error.
func All(root string) ([]Definition, error) {
	entries, err := os.ReadDir(filepath.Join("/", root, Folder))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		err = &problem.Error{What: "the defined domains cannot be listed: " + err.Error(), Cure: "run as root", Err: err}
	}
	var all []Definition
	room := maxXML
	for _, entry := range entries {
		file, isXML := strings.CutSuffix(entry.Name(), ".xml")
		if !isXML || entry.IsDir() {
			continue
		}
		if len(all) == maxDefinitions {
			err = &problem.Error{What: fmt.Sprintf("%s holds more than %d domains", Folder, maxDefinitions), Cure: "move out what does not belong there"}
			break
		}
		content, failed := hostfile.Root(root).Read(path.Join(Folder, entry.Name()), maxXML)
		if errors.Is(failed, fs.ErrNotExist) {
			continue
		}
		all = append(all, parse(file, content, failed, room))
		room -= min(room, len(content))
	}
	refuseDuplicates(all)
	return all, err
}

// parse returns the definition in a file, of which room bytes may still be read.
func parse(file string, content []byte, err error, room int) Definition {
	d := Definition{Name: cmp.Or(file, ".xml"), Err: err, file: file}
	if err != nil {
		return d
	}
	if len(content) > room {
		d.Err = &problem.Error{What: fmt.Sprintf("the definitions are larger than %d bytes together", maxXML), Cure: "move out what does not belong into " + Folder}
		return d
	}
	domain, err := domainxml.Parse(content)
	if err != nil {
		d.Err = &problem.Error{What: err.Error(), Cure: "look at the domain with virsh dumpxml --inactive", Err: err}
		return d
	}
	d.Name, d.Domain, d.XML = domain.Name, domain, content
	return d
}
