//go:build e2e

package e2e

import (
	"fmt"
)

// A mix is which version of each package is installed: that before, or this one.
type mix struct{ hook, agent, gate string }

func (m mix) String() string {
	of := func(v string) string { return map[string]string{"before": "before", "now": "**now**"}[v] }
	return fmt.Sprintf("tool and hook %s, agent %s, gate %s", of(m.hook), of(m.agent), of(m.gate))
}

// mixes have each pair of versions of each two packages, and end with this version of all.
var mixes = []mix{
	{"before", "before", "before"}, {"now", "now", "before"}, {"now", "before", "now"}, {"before", "now", "now"}, {"now", "now", "now"},
}

// versions runs each pair of versions of the packages.
func (h *host) versions() {
	h.must(`mkdir -p /srv/fleet /etc/stopguard; printf '{"revision": "1"}' >/srv/fleet/.manifest
printf 'package stopguard.rules.fleet\n\nveto contains "the fleet is frozen" if {\n\tinput.operation == "stop"\n\tinput.domain.name == "web-01"\n}\n' >/srv/fleet/fleet.rego
printf 'bundles:\n  fleet:\n    resource: file:///srv/fleet\n' >/etc/stopguard/agent.yaml; chmod 600 /etc/stopguard/agent.yaml`)
	h.must("for g in pg-01 db-01 web-01; do virsh domstate $g | grep -q running || virsh start $g; done")
	var was mix
	for i, m := range mixes {
		name := m.String()
		install := func(pkg, version string) {
			h.do(name, "dpkg -i /srv/media/"+version+"/"+pkg+"_*.deb </dev/null", works)
		}
		if m.hook != was.hook {
			install("stopguard", m.hook)
		}
		if m.agent != was.agent {
			install("stopguard-agent", m.agent)
			h.do(name, "systemctl restart stopguard-agent", works)
		}
		if m.gate != was.gate {
			install("stopguard-gate", m.gate)
			if i == 0 {
				h.do(name, "systemctl reload libvirtd; stopguard install --gate /usr/sbin/stopguard-gate --restart", prints("through the gate|already"))
			} else {
				h.do("the gate takes over from the version before, and connections go on", `
old=$(pid stopguard-gate.service); virsh event --all --loop --timeout 60 >/tmp/events 2>&1 & sleep 3
systemctl reload stopguard-gate && sleep 2 && virsh -c "$past" suspend web-01 && virsh -c "$past" resume web-01
sleep 1; kill -INT %1; wait %1; cat /tmp/events; [ "$old" = "$(pid stopguard-gate.service)" ] && ls -l /proc/$old/exe`, prints(`(?is)suspended.*resumed.*/usr/sbin/stopguard-gate\s*$`))
			}
		}
		was = m
		h.do(name, "for g in pg-01 db-01 web-01; do virsh dumpxml $g >/tmp/$g.live; done; stopguard check /tmp/pg-01.live; stopguard doctor | grep failures:", prints("failures: 0"))
		// The mark: of the tool, for gate and hook.
		h.do(name, "stopguard ticket grant pg-01 --operation modify --reason upgrade && stopguard protect pg-01 --until 2099-01-01 --reason 'set by "+m.hook+"' --operations reset,pause,move,modify", works)
		h.do(name, "virsh destroy pg-01", expectation{1, "stopguard: veto: pg-01: .*set by " + m.hook})
		h.do(name, "virsh managedsave pg-01", vetoed(pg))
		h.must("virsh dumpxml pg-01 >/tmp/pg-01.live")
		h.do(name, confined("libvirtd", programs[0].path, pg), expectation{1, "stopguard: veto: pg-01: .*set by " + m.hook})
		// The bundle: of the agent, for gate and hook.
		h.do(name, confined("libvirtd", programs[0].path, web), expectation{1, "stopguard: veto: web-01: .*the fleet is frozen"})
		h.do(name, "virsh destroy web-01", expectation{1, "stopguard: veto: web-01: .*the fleet is frozen"})
		// Tickets: of the tool, for gate and hook. They are taken back, for a guest that is stopped
		// has to be started again.
		h.do(name, `id=$(ticket pg-01 --operation pause) && virsh suspend pg-01 && virsh resume pg-01 && stopguard ticket revoke "$id" && ! virsh suspend pg-01`, works)
		h.do(name, `id=$(ticket web-01) && `+confined("libvirtd", programs[0].path, web)+` && stopguard ticket revoke "$id" && ! `+confined("libvirtd", programs[0].path, web), works)
		// Records: of all, for the tool.
		h.do(name, "stopguard log --since 10m --outcome veto | tail -n 8 && stopguard ticket list", prints("(?s)web-01.*fleet"))
		h.do(name, "systemctl is-active stopguard-agent stopguard-gate; systemctl --failed --no-legend", prints(`^active\s+active\s+$`))
	}
	// The version before has installed the gate, and written the hook file, without what this one
	// adds: doctor names the commands.
	h.do("after all: systemctl reload libvirtd and stopguard install --gate, as doctor says", "systemctl reload libvirtd && stopguard install --gate /usr/sbin/stopguard-gate --restart", works)
	h.doctor("after all: stopguard doctor, every line is ok")
}
