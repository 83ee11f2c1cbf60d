//go:build e2e

package e2e

import (
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stopguard/stopguard/internal/e2ehost"
)

// The first four are listed, and so protected against a stop and a delete.
var (
	listed = e2ehost.Guest{Name: "pg-primary-01", UUID: "5b4d5b3c-6f53-4b8a-8a5e-9f7f6b6a0c21"}
	cold   = e2ehost.Guest{Name: "pg-cold-01", UUID: "5b4d5b3c-6f53-4b8a-8a5e-9f7f6b6a0c22"}              // it is off
	box    = e2ehost.Guest{Name: "box-01", UUID: "5b4d5b3c-6f53-4b8a-8a5e-9f7f6b6a0c23", Format: "qcow2"} // it is off, with a snapshot
	fresh  = e2ehost.Guest{Name: "pg-new-01", UUID: "5b4d5b3c-6f53-4b8a-8a5e-9f7f6b6a0c24"}               // it does not exist yet
	free   = e2ehost.Guest{Name: "web-01", UUID: "3c9e4d35-0b0b-4d05-8e0e-2f4d0f3b7a55"}                  // no one protects it
)

// toolVariable names the built cmd/stopguard.
const toolVariable = "STOPGUARD_E2E_TOOL"

const dataFile = "/etc/stopguard/policy/data.yaml"

var (
	//go:embed manager.py
	managerProgram string

	//go:embed instance.py
	novaProgram string
)

// A tool is a program that deletes a domain with its disks. The domain's name stands for NAME, its
// UUID for UUID, its disk for DISK.
type tool struct {
	name    string
	deletes string
}

const playbook = `- hosts: localhost
  gather_facts: false
  tasks:
  - {name: stop it, community.libvirt.virt: {name: NAME, state: destroyed}, ignore_errors: IGNORE}
  - {name: delete it, community.libvirt.virt: {name: NAME, command: undefine}, ignore_errors: IGNORE}
  - {name: delete its disk, file: {path: DISK, state: absent}}
`

func ansible(ignore string) string {
	return "cat >/run/play.yml <<'END'\n" + strings.ReplaceAll(playbook, "IGNORE", ignore) + "END\n" +
		"ansible-playbook -i localhost, -c local -e ansible_python_interpreter=" + python + " /run/play.yml"
}

const vagrant = `set -e
rm -rf /run/box; mkdir -p /run/box/.vagrant/machines/default/libvirt; cd /run/box
cat >Vagrantfile <<'END'
Vagrant.configure("2") do |config|
  config.vm.synced_folder ".", "/vagrant", disabled: true
  config.vm.provider(:libvirt) { |l| l.driver = "qemu" }
end
END
printf UUID >.vagrant/machines/default/libvirt/id
printf 0 >.vagrant/machines/default/libvirt/creator_uid
status=0; vagrant destroy -f || status=$?
echo "vagrant still has: $(cat .vagrant/machines/default/libvirt/id)"
exit $status`

// A pacemaker's agent is run as pacemaker runs it: with five seconds more than it waits for the
// guest.
const virtualDomain = `mkdir -p /run/resource-agents
OCF_ROOT=/usr/lib/ocf OCF_RESOURCE_INSTANCE=vm OCF_RESKEY_config=/var/lib/libvirt/images/NAME.xml OCF_RESKEY_hypervisor=qemu:///system \
OCF_RESKEY_CRM_meta_timeout=7000 HA_logfile=/dev/null timeout 60 /usr/lib/ocf/resource.d/heartbeat/VirtualDomain stop`

// These delete the disks by libvirt, or by themselves.
var deleters = []tool{
	{"virsh", "virsh destroy NAME; virsh undefine NAME --remove-all-storage"},
	{"virt-manager", python + " /run/manager.py qemu:///system NAME"},
	{"terraform", "goclients terraform qemu:///system libvirt_domain UUID && goclients terraform qemu:///system libvirt_volume DISK"},
	{"vagrant", vagrant},
	{"Ansible", ansible("false")},
	{"Nova", python + " /run/instance.py UUID"},
}

func (h *host) tools() {
	h.addClients()
	h.PrepareGated("")
	h.File(listFile, strings.Join([]string{listed.Name, cold.Name, box.Name, fresh.Name, ""}, "\n"), 0o644)
	h.File("/run/instance.py", novaProgram, 0o600)
	h.StartGate()
	h.StartDaemon()
	h.screen()
	h.DirectOK("pool-define-as", "default", "dir", "--target", e2ehost.GuestDir)
	h.DirectOK("pool-start", "default")
	h.start(listed, listed.Disk())
	h.define(cold, cold.Disk())

	for _, tool := range deleters {
		disk := func(g e2ehost.Guest) string { return g.Disk() }
		if tool.name == "Nova" {
			h.DirectOK("destroy", listed.Name)
			disk = func(g e2ehost.Guest) string { return "/var/lib/nova/instances/" + g.UUID + "/disk" }
			h.start(listed, disk(listed))
			h.define(cold, disk(cold))
		}
		h.Doing = tool.name
		h.start(free, disk(free))
		h.DirectOK("pool-refresh", "default")
		h.Records()
		h.use(tool, "a protected domain that runs", listed, disk(listed))
		h.use(tool, "a protected domain that is off", cold, disk(cold))
		h.use(tool, "another", free, disk(free))
		h.OnDirect("destroy", free.Name) // if the tool did not
		h.OnDirect("undefine", free.Name)
	}
	h.File(dataFile, "site:\n  cluster_managed: [pg-cold-01]\n", 0o644)
	h.use(deleters[5], "a domain that is the manager's", cold, "/var/lib/nova/instances/"+cold.UUID+"/disk")
	h.File(dataFile, "", 0o644)

	h.Doing = "tickets"
	grant := "$STOPGUARD ticket grant NAME --requester anna --reason 'it is over'"
	h.use(tool{"a ticket", grant}, "for a stop", listed, "")
	h.use(deleters[2], "a ticket for a stop", listed, "")
	h.DirectOK("start", listed.Name)
	h.use(tool{"a ticket", grant}, "for the stop of this run", listed, "")
	h.use(tool{"a ticket", grant + " --operation delete"}, "for a delete", listed, "")
	h.use(tool{"terraform", "goclients terraform qemu:///system libvirt_domain UUID"}, "tickets for both", listed, "")
	h.start(listed, listed.Disk())

	h.define(cold, cold.Disk())
	h.use(tool{"Ansible", ansible("true")}, "errors are ignored", cold, cold.Disk())
	h.define(cold, "/run/disks/cold.img")
	h.use(deleters[1], "the disk is in no pool", cold, "/run/disks/cold.img")

	h.Doing = "vagrant, with snapshots"
	h.define(box, box.Disk())
	for _, data := range []string{"", "site:\n  protected_list:\n    operations: [stop, delete, modify]\n"} {
		h.DirectOK("snapshot-create-as", box.Name, "before")
		h.File(dataFile, data, 0o644)
		h.Records()
		name := map[bool]string{true: "a snapshot", false: "a snapshot, modify refused"}[data == ""]
		h.use(deleters[3], name, box, box.Disk())
		h.observe("snapshots, "+name, h.OnDirect("snapshot-list", box.Name, "--name"), box, box.Disk())
	}
	h.File(dataFile, "", 0o644)

	h.Doing = "pacemaker"
	stop := tool{"pacemaker", virtualDomain}
	h.use(stop, "stop of a protected domain", listed, "")
	h.File(dataFile, "site:\n  cluster_managed: [pg-primary-01]\n", 0o644)
	h.use(stop, "stop of a domain that is the cluster's", listed, "")
	h.File(dataFile, "", 0o644)
	h.use(stop, "stop of a domain that is off", listed, "")

	h.install()
}

// install has virt-install make a domain of a protected name, and install another one anew.
func (h *host) install() {
	h.Doing = "virt-install"
	const quick = "--memory 32 --osinfo generic --graphics none --console none --noautoconsole --virt-type qemu --network none "
	h.use(tool{"virt-install", "virt-install --name NAME --uuid UUID --import --disk none " + quick}, "a name on the list", fresh, "")
	h.use(tool{"virt-install", "virt-install --name NAME --uuid UUID --import --disk none " + quick}, "a name that is taken", fresh, "")
	again := tool{"virt-install", "virt-install --reinstall NAME --boot hd --noautoconsole --osinfo generic"}
	h.use(again, "a protected domain that runs, anew", fresh, "")
	h.define(cold, cold.Disk())
	h.use(again, "a protected domain that is off, anew", cold, cold.Disk())
}

// screen starts what virt-manager would draw on: without one it does not begin.
func (h *host) screen() {
	h.File("/run/manager.py", managerProgram, 0o600)
	h.sh("broadwayd :5 >/run/broadway.log 2>&1 &") // a screen, without which virt-manager does not begin
	h.Until("there is a screen", func() bool {
		log, err := os.ReadFile("/run/broadway.log")
		return err == nil && strings.Contains(string(log), "Listening")
	})
}

// use runs a tool on a guest.
func (h *host) use(with tool, what string, g e2ehost.Guest, disk string) {
	h.Doing = with.name + ": " + what
	command := strings.NewReplacer("$STOPGUARD", os.Getenv(toolVariable), "NAME", g.Name, "UUID", g.UUID, "DISK", disk).Replace(with.deletes)
	h.observe(h.Doing, h.sh(command), g, disk)
}

// define defines a guest with its disk in another place, and with a network card: vagrant does not
// delete a domain without one.
func (h *host) define(g e2ehost.Guest, disk string) {
	xml := h.Read(h.Write(g))
	if err := os.MkdirAll(filepath.Dir(disk), 0o755); err != nil {
		h.Fatalf("%v", err)
	}
	h.Run("mv", g.Disk(), disk+".new")
	h.Run("mv", disk+".new", disk)
	xml = strings.ReplaceAll(xml, g.Disk(), disk)
	xml = strings.Replace(xml, "<memballoon", "<interface type='user'/><memballoon", 1)
	file := e2ehost.GuestDir + "/" + g.Name + ".xml"
	h.File(file, xml, 0o644)
	h.DirectOK("define", file)
}

func (h *host) start(g e2ehost.Guest, disk string) {
	h.define(g, disk)
	h.DirectOK("start", g.Name)
	h.Ask(g)
}

func veto(g e2ehost.Guest, operation string) string {
	return fmt.Sprintf("stopguard: veto: %s: listed in /etc/libvirt/protected-domains; take it off the list to %s it (rule protected_list)", g.Name, operation)
}

func TestWhatToolsLeaveThatAreRefused(t *testing.T) {
	if e2ehost.Modular != "" {
		t.Skip("what a tool does about a refusal is the same in both layouts")
	}
	stop, delete := veto(listed, "stop"), veto(cold, "delete")
	const running, off, none = "running", "shut off", "none"
	want := map[string]expected{
		"virsh: a protected domain that runs":   {1, []string{"error: Failed to destroy domain 'pg-primary-01'\nerror: " + stop, "error: Storage volume deletion is supported only on stopped domains"}, running, true, nil},
		"virsh: a protected domain that is off": {1, []string{"error: Failed to undefine domain 'pg-cold-01'\nerror: " + delete}, off, true, nil},

		"virt-manager: a protected domain that runs":   {1, []string{"Error deleting virtual machine 'pg-primary-01': " + stop}, running, true, nil},
		"virt-manager: a protected domain that is off": {1, []string{"Error deleting virtual machine 'pg-cold-01': " + delete}, off, true, nil},

		"terraform: a protected domain that runs":   {1, []string{"it stays in terraform's state\nError: couldn't destroy libvirt domain: " + stop}, running, true, nil},
		"terraform: a protected domain that is off": {1, []string{"it stays in terraform's state\nError: couldn't undefine libvirt domain with flags: " + delete}, off, true, nil},

		"vagrant: a protected domain that runs":   {1, []string{"Call to virDomainDestroyFlags failed: " + stop + " (Libvirt::Error)", "vagrant still has: " + listed.UUID}, running, true, nil},
		"vagrant: a protected domain that is off": {1, []string{"Call to virDomainUndefineFlags failed: " + delete + " (Libvirt::Error)", "vagrant still has: " + cold.UUID}, off, true, nil},

		"Ansible: a protected domain that runs":   {2, []string{`fatal: [localhost]: FAILED! => {"changed": false, "msg": "` + stop + `"}`}, running, true, nil},
		"Ansible: a protected domain that is off": {2, []string{`fatal: [localhost]: FAILED! => {"changed": false, "msg": "` + delete + `"}`}, off, true, nil},
		"Ansible: errors are ignored":             {0, []string{"...ignoring"}, off, false, nil},

		"Nova: a protected domain that runs":   {1, []string{"Nova releases the ports of the instance", "Nova sets the instance to ERROR: libvirtError: " + stop}, running, true, nil},
		"Nova: a protected domain that is off": {1, []string{"Nova releases the ports of the instance", "Nova sets the instance to ERROR: libvirtError: " + delete}, off, false, nil},

		"Nova: a domain that is the manager's": {0, []string{"Nova has deleted the instance"}, none, false, nil},

		"a ticket: for a stop":               {0, nil, running, false, nil},
		"terraform: a ticket for a stop":     {1, []string{"it stays in terraform's state\nError: couldn't undefine libvirt domain with flags: " + veto(listed, "delete")}, off, false, nil},
		"a ticket: for the stop of this run": {0, nil, running, false, nil},
		"a ticket: for a delete":             {0, nil, running, false, nil},
		"terraform: tickets for both":        {0, nil, none, false, nil},

		"virt-manager: the disk is in no pool": {1, []string{"Error deleting virtual machine 'pg-cold-01': " + delete}, off, false, nil},

		"vagrant: a snapshot":                   {1, []string{"Call to virDomainUndefineFlags failed: " + veto(box, "delete")}, off, true, nil},
		"snapshots, a snapshot":                 {0, []string{"\n"}, off, true, nil},
		"vagrant: a snapshot, modify refused":   {1, []string{"Call to virDomainUndefineFlags failed: " + veto(box, "delete")}, off, true, nil},
		"snapshots, a snapshot, modify refused": {0, []string{"before\n"}, off, true, nil},

		"pacemaker: stop of a protected domain":             {1, []string{"error: Failed to shutdown domain 'pg-primary-01'\nerror: " + stop, "ocf-exit-reason:forced stop failed"}, running, false, nil},
		"pacemaker: stop of a domain that is the cluster's": {0, nil, off, false, nil},
		"pacemaker: stop of a domain that is off":           {0, []string{"already stopped"}, off, false, nil},

		"virt-install: a name on the list":                   {0, []string{"Creating domain"}, running, false, nil},
		"virt-install: a name that is taken":                 {1, []string{"Guest name 'pg-new-01' is already in use."}, running, false, nil},
		"virt-install: a protected domain that runs, anew":   {1, []string{"domain 'pg-new-01' is already active"}, running, false, nil},
		"virt-install: a protected domain that is off, anew": {0, []string{"Domain creation completed."}, running, true, []string{}},
	}
	for _, tool := range deleters {
		want[tool.name+": another"] = expected{0, nil, none, false, nil}
	}
	compare(t, toolSteps(t), want)
}

var seenTools []step

// toolSteps returns the steps of the tools, which are done once.
func toolSteps(t *testing.T) []step {
	t.Helper()
	if seenTools == nil {
		e2ehost.Need(t, toolVariable)
		seenTools = on(t, "tools")
	}
	return seenTools
}

// compare compares steps with what is expected of each.
func compare(t *testing.T, seen []step, want map[string]expected) {
	t.Helper()
	names := []string{}
	for _, s := range seen {
		names = append(names, s.Name)
		t.Run(s.Name, func(t *testing.T) {
			w, ok := want[s.Name]
			if !ok {
				t.Fatal("nothing is expected of it")
			}
			output := s.Got.Stdout + s.Got.Stderr
			if s.Got.Exit != w.exit || s.State != w.state || s.HasDisk != w.hasDisk {
				t.Errorf("exit code %d, the domain is %q, its disk is there: %t; want %d, %q, %t\n%s", s.Got.Exit, s.State, s.HasDisk, w.exit, w.state, w.hasDisk, output)
			}
			for _, says := range w.says {
				if !strings.Contains(output, says) {
					t.Errorf("it does not say %q:\n%s", says, output)
				}
			}
			if w.records != nil && !slices.Equal(w.records, s.Records) {
				t.Errorf("the records are %q, want %q", s.Records, w.records)
			}
			t.Logf("%s\n%q", output, s.Records)
		})
	}
	for name := range want {
		if !slices.Contains(names, name) {
			t.Errorf("%q was not done", name)
		}
	}
}
