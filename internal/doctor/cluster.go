package doctor

import (
	"slices"
	"strings"
)

// clusterSigns are the processes and files of cluster managers that stop domains by themselves.
// They do not include files of packages that may be unused.
var clusterSigns = []struct {
	name      string
	processes []string
	files     []string
}{
	{"Pacemaker", []string{"pacemakerd", "corosync"}, []string{"/var/lib/pacemaker/cib/cib.xml"}},
	{"oVirt", []string{"vdsmd"}, []string{"/etc/vdsm/vdsm.id"}},
	{"OpenStack Nova", []string{"nova-compute"}, nil},
	{"Proxmox", []string{"pve-ha-lrm", "pve-ha-crm", "pmxcfs"}, nil},
	{"KubeVirt", []string{"virt-launcher", "virt-handler"}, nil},
	{"CloudStack", nil, []string{"/etc/cloudstack/agent/agent.properties"}},
	{"OpenNebula", nil, []string{"/var/tmp/one/im/run_probes"}},
}

// checkCluster warns about a cluster manager that stops domains by itself, unless the site has set
// data.site.cluster_managed.
func (d *doctor) checkCluster(site map[string]any) {
	managers := d.clusterManagers()
	_, set := site["cluster_managed"]
	switch {
	case len(managers) == 0:
		d.ok("cluster", "no cluster manager is seen")
	case set:
		d.ok("cluster", "%s runs here, and data.site.cluster_managed is set", strings.Join(managers, ", "))
	default:
		d.warning("cluster", "list the domains that it may stop in data.site.cluster_managed; [] if there are none",
			"%s runs here: a stop that is refused to it may get this host fenced, or two copies run on one disk", strings.Join(managers, ", "))
	}
}

// clusterManagers returns the names of the cluster managers on the host.
func (d *doctor) clusterManagers() []string {
	var found []string
	for _, sign := range clusterSigns {
		runs := slices.ContainsFunc(sign.processes, func(name string) bool { return d.processes.Names[name] })
		if runs || slices.ContainsFunc(sign.files, d.Exists) {
			found = append(found, sign.name)
		}
	}
	return found
}
