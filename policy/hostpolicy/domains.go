package hostpolicy

import (
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/stopguard/stopguard/internal/lazyregexp"
	"github.com/stopguard/stopguard/internal/protectedlist"
)

// domainFolders are where libvirt keeps a file NAME.xml for each defined and for each running
// domain.
var domainFolders = []string{
	"/etc/libvirt/qemu", "/run/libvirt/qemu",
	"/etc/libvirt/lxc", "/run/libvirt/lxc",
	"/etc/libvirt/libxl", "/run/libvirt/libxl",
}

var uuidElement = lazyregexp.New(`<uuid>([0-9A-Fa-f-]{32,36})</uuid>`)

// domainsOf returns the domains of a host, defined or running. It returns nil if no folder of
// libvirt's can be read.
func domainsOf(root string) []protectedlist.Domain {
	var domains []protectedlist.Domain
	seen := map[string]bool{}
	for _, folder := range domainFolders {
		entries, err := os.ReadDir(onHost(root, folder))
		if err != nil {
			continue
		}
		if domains == nil {
			domains = []protectedlist.Domain{}
		}
		for _, entry := range entries {
			name, ok := strings.CutSuffix(entry.Name(), ".xml")
			if !ok || !entry.Type().IsRegular() || seen[name] {
				continue
			}
			seen[name] = true
			domains = append(domains, protectedlist.Domain{Name: name, UUID: uuidIn(onHost(root, folder, entry.Name()))})
		}
	}
	return domains
}

// uuidIn returns the first UUID in a file of libvirt's; "" if it cannot be read. The domain's own
// stands near the beginning.
func uuidIn(file string) string {
	const head = 64 << 10
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, head))
	if err != nil {
		return ""
	}
	if found := uuidElement().FindSubmatch(content); found != nil {
		return string(found[1])
	}
	return ""
}

// onHost returns a path of the host as this process finds it.
func onHost(root string, elements ...string) string {
	if root == "" {
		root = "/"
	}
	return filepath.Join(append([]string{root}, elements...)...)
}
