//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stopguard/stopguard/internal/e2ehost"
)

// These guests are protected by default, by the list or by a mark without operations: against a
// stop and a delete.
var (
	plain     = e2ehost.Guest{Name: "billing-02", UUID: "5b4d5b3c-6f53-4b8a-8a5e-9f7f6b6a0c24", Metadata: `<protection xmlns="urn:stopguard:protection:1" reason="billing"/>`}
	vault     = e2ehost.Guest{Name: third.Name, UUID: third.UUID, Format: "qcow2"}
	transient = e2ehost.Guest{Name: "billing-03", UUID: "5b4d5b3c-6f53-4b8a-8a5e-9f7f6b6a0c25", Metadata: plain.Metadata}
)

const (
	keptByList  = "stopguard: veto: pg-primary-01: listed in /etc/libvirt/protected-domains; take it off the list to delete it (rule protected_list)"
	keptByMark  = "stopguard: veto: billing-02: protected: billing (rule protection_mark)"
	vaultByList = "stopguard: veto: pg-standby-01: listed in /etc/libvirt/protected-domains; take it off the list to delete it (rule protected_list)"

	pool      = "images"
	backupXML = `<domainbackup mode='push'><disks><disk name='hda' type='file'><target file='/var/lib/libvirt/images/nightly.qcow2'/><driver type='qcow2'/></disk></disks></domainbackup>`
)

// shownByDeletes are the procedures that this host shows.
var shownByDeletes = strings.Fields("STORAGE_VOL_DELETE STORAGE_VOL_WIPE STORAGE_VOL_WIPE_PATTERN STORAGE_VOL_UPLOAD STORAGE_VOL_RESIZE STORAGE_POOL_DELETE " +
	"STORAGE_POOL_BUILD STORAGE_POOL_CREATE STORAGE_POOL_CREATE_XML BLOCK_RESIZE DETACH_DEVICE_FLAGS DETACH_DEVICE_ALIAS CHECKPOINT_DELETE SNAPSHOT_DELETE BLOCK_COMMIT BLOCK_JOB_ABORT BLOCK_PULL")

// deletes tries all ways to delete protected domains and the data of their disks, and then does
// what must go on beside them.
func (h *host) deletes() {
	h.beginDefault(listed, plain, vault, marked, free)
	h.DirectOK("pool-define-as", pool, "dir", "--target", e2ehost.GuestDir)
	h.DirectOK("pool-start", pool)
	try := func(name string, g e2ehost.Guest, args ...string) {
		h.Doing = name
		got := h.CommandWithin(3*e2ehost.Patience, "", h.Environment(), "virsh", append([]string{"-c", "qemu:///system"}, args...)...)
		h.seen = append(h.seen, step{Name: name, Through: got, State: h.State(g), Memory: h.memory(g), Records: h.Records()})
	}
	bare := plain
	bare.Metadata = ""
	h.File("/run/bare.xml", bare.XML(), 0o600)

	try("undefine", listed, "undefine", listed.Name)
	try("undefine, with all that belongs to it", listed, "undefine", listed.Name, "--managed-save", "--snapshots-metadata", "--checkpoints-metadata", "--nvram")
	try("undefine, by a mark", plain, "undefine", plain.Name)
	try("a migration that leaves no definition", listed, "migrate", "--live", "--p2p", "--undefinesource", listed.Name, "qemu+tcp://127.0.0.1:1/system")

	h.DirectOK("managedsave", plain.Name)
	h.Records()
	try("the managed save is removed", plain, "managedsave-remove", plain.Name)
	try("a boot that is forced past it", plain, "start", plain.Name, "--force-boot")
	try("undefine of a domain that is off, with its managed save", plain, "undefine", plain.Name, "--managed-save")
	try("a start from it", plain, "start", plain.Name)
	h.DirectOK("save", plain.Name, "/run/plain.save")
	h.Records()
	try("another domain is created over it", plain, "create", "/run/bare.xml")
	try("it is restored without its mark", plain, "restore", "/run/plain.save", "--xml", "/run/bare.xml")
	try("it is restored as it was", plain, "restore", "/run/plain.save")

	h.Doing = "a transient domain is created"
	h.DirectOK("create", h.Write(transient))
	h.Ask(transient)
	h.Remind(transient)
	h.Records()
	try("destroy of a transient domain", transient, "destroy", transient.Name)
	h.note("a ticket for a stop", h.tool("ticket", "grant", transient.UUID, "--requester", "alice", "--reason", "stopping"))
	try("destroy of a transient domain, with a ticket for a stop", transient, "destroy", transient.Name)
	h.note("a ticket for a delete", h.tool("ticket", "grant", transient.UUID, "--operation", "delete", "--requester", "alice", "--reason", "deleting"))
	try("destroy of a transient domain, with both", transient, "destroy", transient.Name)

	h.Doing = "disks of domains"
	h.DirectOK("pool-refresh", pool)
	h.File("/run/zeros", strings.Repeat("\x00", 1<<20), 0o600)
	volume := listed.Name + ".img"
	try("its volume is deleted", listed, "vol-delete", volume, "--pool", pool)
	try("by its path", listed, "vol-delete", listed.Disk())
	try("its volume is wiped", listed, "vol-wipe", volume, "--pool", pool)
	try("with a pattern", listed, "vol-wipe", volume, "--pool", pool, "--algorithm", "random")
	try("its volume is overwritten", listed, "vol-upload", volume, "/run/zeros", "--pool", pool)
	try("its volume is made smaller", listed, "vol-resize", volume, "512K", "--pool", pool, "--shrink")
	try("its disk is made smaller", listed, "blockresize", listed.Name, "hda", "512K")
	try("its disk is made larger", listed, "blockresize", listed.Name, "hda", "2M")
	h.Freeze(h.QEMU(listed)) // libvirtd cannot ask its monitor how large the disk is, and would wait for it
	got := h.Virsh("blockresize", listed.Name, "hda", "512K")
	h.Thaw(h.QEMU(listed))
	h.seen = append(h.seen, step{Name: "its disk is made smaller while its monitor hangs", Through: got, State: h.State(listed), Memory: h.memory(listed), Records: h.Records()})
	h.DirectOK("pool-destroy", pool)
	try("its pool is deleted", listed, "pool-delete", pool)
	try("its pool is formatted", listed, "pool-build", pool, "--overwrite")
	h.DirectOK("pool-define-as", "onto", "disk", "--source-dev", vault.Disk(), "--source-format", "gpt", "--target", "/dev")
	try("a pool is made on its disk", vault, "pool-build", "onto")
	try("a pool is made on its disk and started", vault, "pool-start", "onto", "--build")
	h.DirectOK("pool-undefine", "onto")
	try("a new pool is made on its disk", vault, "pool-create-as", "onto", "disk", "--source-dev", vault.Disk(), "--source-format", "gpt", "--target", "/dev", "--build")
	h.DirectOK("pool-start", pool)

	h.Doing = "a domain that is off has an overlay"
	h.DirectOK("destroy", vault.Name)
	overlay := vault.Disk() + ".top"
	h.Run("qemu-img", "create", "-q", "-f", "qcow2", "-b", vault.Disk(), "-F", "qcow2", overlay)
	h.File("/run/vault.xml", strings.ReplaceAll(vault.XML(), vault.Disk(), overlay), 0o600)
	h.DirectOK("define", "/run/vault.xml")
	h.File(e2ehost.GuestDir+"/beside.img", "", 0o600)
	h.DirectOK("pool-refresh", pool)
	h.Records()
	try("the overlay of a domain that is off", vault, "vol-delete", overlay)
	try("what its overlay is above", vault, "vol-delete", vault.Disk())
	h.Doing = "its XML is too large to be sent"
	for i := range 45 {
		h.DirectOK("metadata", vault.Name, "--config", "--uri", fmt.Sprint("urn:", i), "--key", "k", "--set", "<x>"+strings.Repeat("y", 100_000)+"</x>")
	}
	h.note("its XML", h.OnDirect("dumpxml", vault.Name))
	try("the overlay, if the XML is too large to be sent", vault, "vol-delete", overlay)
	try("an unprotected volume beside it", vault, "vol-delete", e2ehost.GuestDir+"/beside.img")
	for i := range 45 {
		h.DirectOK("metadata", vault.Name, "--config", "--uri", fmt.Sprint("urn:", i), "--remove")
	}
	h.DirectOK("start", vault.Name)
	h.Ask(vault)
	h.Remind(vault)
	try("what its overlay is above, while it runs", vault, "vol-delete", vault.Disk())

	h.Doing = "a mark that is for modify"
	try("its disk is detached", marked, "detach-disk", marked.Name, "hda", "--config")
	try("its disk is detached by its alias", marked, "detach-device-alias", marked.Name, "ide0-0-0", "--live")
	try("another device is detached by its alias", marked, "detach-device-alias", marked.Name, "usb", "--live")
	try("its disk is pulled", marked, "blockpull", marked.Name, "hda")
	try("its disk is detached, under a plain mark", plain, "detach-disk", plain.Name, "hda", "--config")

	h.Doing = "the nightly backup"
	h.File("/run/backup.xml", backupXML, 0o600)
	h.File("/run/checkpoint.xml", "<domaincheckpoint><name>nightly</name></domaincheckpoint>", 0o600)
	h.Records()
	try("a backup with a checkpoint", vault, "backup-begin", vault.Name, "/run/backup.xml", "/run/checkpoint.xml")
	h.Until("the backup is over", func() bool { return strings.Contains(h.OnDirect("domjobinfo", vault.Name).Stdout, "None") })
	try("its checkpoint is deleted", vault, "checkpoint-delete", vault.Name, "nightly")
	try("a snapshot of its disk", vault, "snapshot-create-as", vault.Name, "nightly", "--disk-only", "--diskspec", "hda,file="+vault.Disk()+".nightly")
	try("the snapshot is committed", vault, "blockcommit", vault.Name, "hda", "--active", "--pivot", "--wait")
	try("the snapshot is deleted", vault, "snapshot-delete", vault.Name, "nightly", "--metadata")
	h.DirectOK("pool-refresh", pool)
	try("the file of the backup is deleted", vault, "vol-delete", e2ehost.GuestDir+"/nightly.qcow2")

	h.Doing = "an unprotected guest is deleted as Nova does it"
	try("an unprotected guest is destroyed", free, "destroy", free.Name)
	try("and undefined", free, "undefine", free.Name, "--managed-save", "--nvram")
	try("and its volume deleted", free, "vol-delete", free.Name+".img", "--pool", pool)

	h.startOther(destination)
	try("the host is drained", listed, "migrate", "--live", "--persistent", "--undefinesource", "--unsafe", listed.Name, toGate, "tcp://127.0.0.1")
	h.seen = append(h.seen, step{Name: "it is on the other host", Through: h.there("domstate", "--reason", listed.Name)})
}

func TestNoWayDeletesAProtectedDomainOrItsDisks(t *testing.T) {
	e2ehost.Need(t, toolVariable)
	const running = "running"
	refused := func(says, record string) expected {
		return expected{1, says, running, e2ehost.Kept, []string{record}}
	}
	list := refused(keptByList, "pg-primary-01 delete veto protected_list")
	onVault := refused(vaultByList, "pg-standby-01 delete veto protected_list")
	passes := func(records ...string) expected { return expected{0, "", running, e2ehost.Kept, records} }
	compare(t, on(t, "deletes"), map[string]expected{
		"undefine":                                                list,
		"undefine, with all that belongs to it":                   list,
		"undefine, by a mark":                                     refused(keptByMark, "billing-02 delete veto protection_mark"),
		"a migration that leaves no definition":                   {1, keptByList, running, e2ehost.Kept, []string{"pg-primary-01 delete veto protected_list", "pg-primary-01 move allow"}},
		"the managed save is removed":                             {1, keptByMark, "shut off (saved)", "", []string{"billing-02 delete veto protection_mark"}},
		"a boot that is forced past it":                           {1, keptByMark, "shut off (saved)", "", []string{"billing-02 delete veto protection_mark"}},
		"undefine of a domain that is off, with its managed save": {1, keptByMark, "shut off (saved)", "", []string{"billing-02 delete veto protection_mark"}},
		"a start from it":                                         passes(),
		"another domain is created over it":                       {1, keptByMark, "shut off", "", []string{"billing-02 delete veto protection_mark", "billing-02 modify allow"}},
		"it is restored without its mark":                         {1, keptByMark, "shut off", "", []string{"billing-02 delete veto protection_mark", "billing-02 modify allow"}},
		"it is restored as it was":                                passes(),

		"destroy of a transient domain":                           {1, "stopguard: veto: billing-03: protected: billing", running, e2ehost.Kept, []string{"billing-03 stop veto protection_mark"}},
		"a ticket for a stop":                                     {0, "may be stopped", "", "", nil},
		"destroy of a transient domain, with a ticket for a stop": {1, "stopguard: veto: billing-03: protected: billing", running, e2ehost.Kept, []string{"billing-03 delete veto protection_mark", "billing-03 stop allow protection_mark ticket:stopping"}},
		"a ticket for a delete":                                   {0, "may be deleted", "", "", nil},
		"destroy of a transient domain, with both":                {0, "", "none", "", []string{"billing-03 delete allow protection_mark ticket:deleting", "billing-03 stop allow protection_mark ticket:stopping"}},

		"its volume is deleted":                            list,
		"by its path":                                      list,
		"its volume is wiped":                              list,
		"with a pattern":                                   list,
		"its volume is overwritten":                        list,
		"its volume is made smaller":                       list,
		"its disk is made smaller":                         list,
		"its disk is made larger":                          passes(),
		"its disk is made smaller while its monitor hangs": list,
		"its pool is deleted":                              {1, keptByList, running, e2ehost.Kept, []string{"pg-primary-01 delete veto protected_list", "web-01 delete allow"}},
		"its pool is formatted":                            {1, keptByList, running, e2ehost.Kept, []string{"pg-primary-01 delete veto protected_list", "web-01 delete allow"}},
		"a pool is made on its disk":                       onVault,
		"a new pool is made on its disk":                   onVault,
		"a pool is made on its disk and started":           onVault,

		"its disk is detached":                     refused(byMark, "billing-01 modify veto protection_mark"),
		"its disk is detached by its alias":        refused(byMark, "billing-01 modify veto protection_mark"),
		"another device is detached by its alias":  {1, "error: ", running, e2ehost.Kept, nil},
		"its disk is pulled":                       refused(byMark, "billing-01 modify veto protection_mark"),
		"its disk is detached, under a plain mark": passes("billing-02 modify allow"),

		"the overlay of a domain that is off":             {1, vaultByList, "shut off", "", []string{"pg-standby-01 delete veto protected_list"}},
		"what its overlay is above":                       {1, vaultByList, "shut off", "", []string{"pg-standby-01 delete veto protected_list"}},
		"its XML":                                         {1, "Unable to encode message payload", "", "", nil},
		"the overlay, if the XML is too large to be sent": {1, vaultByList, "shut off", "", []string{"pg-standby-01 delete veto protected_list protection_mark"}},
		"an unprotected volume beside it":                 {0, "", "shut off", "", nil},
		"what its overlay is above, while it runs":        onVault,

		"a backup with a checkpoint":        passes(),
		"its checkpoint is deleted":         passes("pg-standby-01 modify allow"),
		"a snapshot of its disk":            passes(),
		"the snapshot is committed":         passes("pg-standby-01 modify allow", "pg-standby-01 modify allow"),
		"the snapshot is deleted":           passes("pg-standby-01 modify allow"),
		"the file of the backup is deleted": passes(),

		"an unprotected guest is destroyed": {0, "", "shut off", "", []string{"web-01 stop allow"}},
		"and undefined":                     {0, "", "none", "", []string{"web-01 delete allow"}},
		"and its volume deleted":            {0, "", "none", "", nil},

		"the host is drained":     {0, "", "none", "", []string{"pg-primary-01 move allow", "pg-primary-01 move allow"}},
		"it is on the other host": {0, "running", "", "", nil},
	})
}
