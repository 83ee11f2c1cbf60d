package call

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What libvirt 9.0.0 has of procedures that end, pause, reset or move a domain or take its
// protection away, from its remote_protocol.x and qemu_protocol.x: number, what is asked about, and
// with which flags. It is written down once more so that a row that gets lost is missed.
var wanted = []struct {
	program, number uint32
	name            string
	flags           uint64
	asks            string
}{
	{Remote, 12, "DOMAIN_DESTROY", 0, "stop"},
	{Remote, 234, "DOMAIN_DESTROY_FLAGS", 0, "stop"},
	{Remote, 234, "DOMAIN_DESTROY_FLAGS", 1, "stop"},
	{Remote, 33, "DOMAIN_SHUTDOWN", 0, "stop"},
	{Remote, 258, "DOMAIN_SHUTDOWN_FLAGS", 2, "stop"},
	{Remote, 55, "DOMAIN_SAVE", 0, "stop"},
	{Remote, 232, "DOMAIN_SAVE_FLAGS", 0, "stop modify"},
	{Remote, 440, "DOMAIN_SAVE_PARAMS", 0, "stop"},
	{Remote, 182, "DOMAIN_MANAGED_SAVE", 0, "stop"},
	{Remote, 53, "DOMAIN_CORE_DUMP", 0, "pause"},
	{Remote, 53, "DOMAIN_CORE_DUMP", 1, "stop pause"},
	{Remote, 53, "DOMAIN_CORE_DUMP", 2, ""},
	{Remote, 53, "DOMAIN_CORE_DUMP", 1 | 2, "stop"},
	{Remote, 53, "DOMAIN_CORE_DUMP", 8, "reset pause"},
	{Remote, 53, "DOMAIN_CORE_DUMP", 16, "pause"},
	{Remote, 53, "DOMAIN_CORE_DUMP", 2 | 16, "pause"},
	{Remote, 334, "DOMAIN_CORE_DUMP_WITH_FORMAT", 1 | 2, "stop"},
	{Remote, 334, "DOMAIN_CORE_DUMP_WITH_FORMAT", 8 | 2, "reset"},
	{Remote, 334, "DOMAIN_CORE_DUMP_WITH_FORMAT", 2, ""},
	{Remote, 334, "DOMAIN_CORE_DUMP_WITH_FORMAT", 2 | 16, "pause"},
	{Remote, 334, "DOMAIN_CORE_DUMP_WITH_FORMAT", 0, "pause"},
	{Remote, 185, "DOMAIN_SNAPSHOT_CREATE_XML", 0, "pause"},
	{Remote, 185, "DOMAIN_SNAPSHOT_CREATE_XML", 8, "stop pause"},
	{Remote, 185, "DOMAIN_SNAPSHOT_CREATE_XML", 8 | 16, "stop"},
	{Remote, 185, "DOMAIN_SNAPSHOT_CREATE_XML", 16, ""},
	{Remote, 185, "DOMAIN_SNAPSHOT_CREATE_XML", 256, ""},
	{Remote, 185, "DOMAIN_SNAPSHOT_CREATE_XML", 1, ""},
	{Remote, 192, "DOMAIN_REVERT_TO_SNAPSHOT", 0, "stop modify"},
	{Remote, 250, "NODE_SUSPEND_FOR_DURATION", 0, "pause"},
	{QEMU, 1, "QEMU_DOMAIN_MONITOR_COMMAND", 0, "stop"},
	{QEMU, 1, "QEMU_DOMAIN_MONITOR_COMMAND", 1, "stop"},
	{QEMU, 7, "QEMU_DOMAIN_MONITOR_COMMAND_WITH_FILES", 0, "stop"},
	{QEMU, 3, "QEMU_DOMAIN_AGENT_COMMAND", 0, "stop"},

	{Remote, 357, "DOMAIN_SET_USER_PASSWORD", 0, "stop"},
	{Remote, 425, "DOMAIN_AUTHORIZED_SSH_KEYS_SET", 1, "stop"},
	{Remote, 372, "DOMAIN_SET_GUEST_VCPUS", 0, "stop"},
	{Remote, 199, "DOMAIN_SET_VCPUS_FLAGS", 8, "stop"},
	{Remote, 199, "DOMAIN_SET_VCPUS_FLAGS", 1, ""},

	{Remote, 27, "DOMAIN_REBOOT", 0, "reset"},
	{Remote, 245, "DOMAIN_RESET", 0, "reset"},
	{Remote, 210, "DOMAIN_INJECT_NMI", 0, "reset"},
	{Remote, 226, "DOMAIN_SEND_KEY", 0, "reset"},
	{Remote, 295, "DOMAIN_SEND_PROCESS_SIGNAL", 0, "reset"},

	{Remote, 34, "DOMAIN_SUSPEND", 0, "pause"},
	{Remote, 261, "DOMAIN_PM_SUSPEND_FOR_DURATION", 0, "pause"},
	{Remote, 335, "DOMAIN_FSFREEZE", 0, "pause"},
	{Remote, 166, "DOMAIN_MIGRATE_SET_MAX_DOWNTIME", 0, "pause"},
	{Remote, 364, "DOMAIN_MIGRATE_START_POST_COPY", 0, "pause"},

	{Remote, 442, "DOMAIN_ABORT_JOB_FLAGS", 1, "pause"},
	{Remote, 442, "DOMAIN_ABORT_JOB_FLAGS", 0, ""},

	{Remote, 302, "DOMAIN_MIGRATE_BEGIN3_PARAMS", 1, "move modify"},
	{Remote, 305, "DOMAIN_MIGRATE_PERFORM3_PARAMS", 3, "move modify"},
	{Remote, 213, "DOMAIN_MIGRATE_BEGIN3", 0, "move pause modify"},
	{Remote, 216, "DOMAIN_MIGRATE_PERFORM3", 0, "move pause modify"},
	{Remote, 62, "DOMAIN_MIGRATE_PERFORM", 0, "move pause modify"},

	{Remote, 264, "DOMAIN_SET_METADATA", 0, ""}, // not of our namespace; see the test of commands
	{Remote, 11, "DOMAIN_DEFINE_XML", 0, "modify"},
	{Remote, 350, "DOMAIN_DEFINE_XML_FLAGS", 0, "modify"},
	{Remote, 35, "DOMAIN_UNDEFINE", 0, "delete"},
	{Remote, 231, "DOMAIN_UNDEFINE_FLAGS", 0, "delete"},
	{Remote, 358, "DOMAIN_RENAME", 0, "modify"},
	{Remote, 390, "DOMAIN_SET_LIFECYCLE_ACTION", 0, "modify"},
	{Remote, 29, "DOMAIN_SET_AUTOSTART", 0, "modify"},
	{Remote, 450, "DOMAIN_SET_AUTOSTART_ONCE", 0, "modify"},
	{Remote, 389, "DOMAIN_MANAGED_SAVE_DEFINE_XML", 0, "modify"},
	{Remote, 184, "DOMAIN_MANAGED_SAVE_REMOVE", 0, "delete"},
	{Remote, 236, "DOMAIN_SAVE_IMAGE_DEFINE_XML", 0, "modify"},

	{Remote, 94, "STORAGE_VOL_DELETE", 0, "delete"},
	{Remote, 165, "STORAGE_VOL_WIPE", 0, "delete"},
	{Remote, 259, "STORAGE_VOL_WIPE_PATTERN", 0, "delete"},
	{Remote, 260, "STORAGE_VOL_RESIZE", 4, "delete"},
	{Remote, 260, "STORAGE_VOL_RESIZE", 2 | 4, "delete"},
	{Remote, 260, "STORAGE_VOL_RESIZE", 1, ""},
	{Remote, 208, "STORAGE_VOL_UPLOAD", 0, "delete"},
	{Remote, 79, "STORAGE_POOL_BUILD", 8, "delete"},
	{Remote, 79, "STORAGE_POOL_BUILD", 4, "delete"},
	{Remote, 79, "STORAGE_POOL_BUILD", 0, "delete"},
	{Remote, 76, "STORAGE_POOL_CREATE_XML", 0, ""},
	{Remote, 76, "STORAGE_POOL_CREATE_XML", 1, "delete"},
	{Remote, 76, "STORAGE_POOL_CREATE_XML", 2, "delete"},
	{Remote, 76, "STORAGE_POOL_CREATE_XML", 4, "delete"},
	{Remote, 78, "STORAGE_POOL_CREATE", 0, ""},
	{Remote, 78, "STORAGE_POOL_CREATE", 1, "delete"},
	{Remote, 78, "STORAGE_POOL_CREATE", 2, "delete"},
	{Remote, 78, "STORAGE_POOL_CREATE", 4, "delete"},
	{Remote, 81, "STORAGE_POOL_DELETE", 0, "delete"},
	{Remote, 251, "DOMAIN_BLOCK_RESIZE", 0, "delete"},
	{Remote, 251, "DOMAIN_BLOCK_RESIZE", 1, "delete"},
	{Remote, 251, "DOMAIN_BLOCK_RESIZE", 2, ""},
	{Remote, 251, "DOMAIN_BLOCK_RESIZE", 1 | 4, ""},
	{Remote, 13, "DOMAIN_DETACH_DEVICE", 0, "modify"},
	{Remote, 161, "DOMAIN_DETACH_DEVICE_FLAGS", 0, "modify"},
	{Remote, 392, "DOMAIN_DETACH_DEVICE_ALIAS", 0, "modify"},
	{Remote, 193, "DOMAIN_SNAPSHOT_DELETE", 0, "modify"},
	{Remote, 417, "DOMAIN_CHECKPOINT_DELETE", 2, "modify"},
	{Remote, 290, "DOMAIN_BLOCK_COMMIT", 4, "modify"},
	{Remote, 240, "DOMAIN_BLOCK_PULL", 0, "modify"},
	{Remote, 266, "DOMAIN_BLOCK_REBASE", 0, "modify"},
	{Remote, 266, "DOMAIN_BLOCK_REBASE", 8, ""},
	{Remote, 237, "DOMAIN_BLOCK_JOB_ABORT", 2, "modify"},
	{Remote, 237, "DOMAIN_BLOCK_JOB_ABORT", 1, ""},

	{Remote, 196, "DOMAIN_CREATE_WITH_FLAGS", 0, ""},
	{Remote, 196, "DOMAIN_CREATE_WITH_FLAGS", 2, "stop"},
	{Remote, 196, "DOMAIN_CREATE_WITH_FLAGS", 8, "delete"},
	{Remote, 10, "DOMAIN_CREATE_XML", 0, "modify delete"},
	{Remote, 10, "DOMAIN_CREATE_XML", 3, "stop modify delete"},
	{Remote, 309, "DOMAIN_CREATE_XML_WITH_FILES", 2, "stop modify delete"},
	{Remote, 233, "DOMAIN_RESTORE_FLAGS", 0, "modify delete"},
	{Remote, 441, "DOMAIN_RESTORE_PARAMS", 0, "modify delete"},
	{Remote, 310, "DOMAIN_CREATE_WITH_FILES", 2, "stop"},
	{Remote, 310, "DOMAIN_CREATE_WITH_FILES", 2 | 8, "stop delete"},
}

func words(operations []Operation) string {
	var w []string
	for _, o := range operations {
		w = append(w, string(o))
	}
	return strings.Join(w, " ")
}

func TestEveryProcedureOfTheListIsInTheTable(t *testing.T) {
	seen := map[*row]bool{}
	for _, tt := range wanted {
		r := table[tt.program][tt.number]
		if r == nil {
			t.Errorf("%s (%d) is not in the table", tt.name, tt.number)
			continue
		}
		seen[r] = true
		if Of(tt.program, tt.number) != Hold || Name(tt.program, tt.number) != tt.name {
			t.Errorf("%d: %v, %s, want to hold %s", tt.number, Of(tt.program, tt.number), Name(tt.program, tt.number), tt.name)
		}
		c, err := Read(tt.program, tt.number, filled(r.args, tt.flags))
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if got := words(c.Operations); got != tt.asks {
			t.Errorf("%s with flags %d asks about %q, want %q", tt.name, tt.flags, got, tt.asks)
		}
		if strings.ContainsAny(r.args, "DN") && c.UUID != webUUID {
			t.Errorf("%s is about %q", tt.name, c.UUID)
		}
		if strings.ContainsAny(r.args, "xo") && c.XML != definition {
			t.Errorf("%s is about %q", tt.name, c.XML)
		}
		if (r.subject == OneDomain) != strings.ContainsAny(r.args, "DN") || (r.subject == NewDefinition || r.subject == NewDomain) != (strings.ContainsAny(r.args, "xo") || tt.number == restoreParams) {
			t.Errorf("%s: subject %d and arguments %s", tt.name, r.subject, r.args)
		}
	}
	for _, rows := range [][]row{remoteRows, qemuRows} {
		for i := range rows {
			if r := table[Remote][rows[i].number]; Of(Remote, rows[i].number) == Hold && r == &rows[i] && !seen[r] {
				t.Errorf("%s is in the table and not in the list", r.name)
			}
		}
	}
}

const restoreParams = 441 // it has its XML among the parameters

func TestNoRowIsWrittenTwice(t *testing.T) {
	if got := len(table[Remote]) + len(table[QEMU]); got != len(remoteRows)+len(qemuRows) {
		t.Errorf("%d rows of %d", got, len(remoteRows)+len(qemuRows))
	}
}

func TestWhatNeedsNoDecisionPasses(t *testing.T) {
	for _, tt := range []struct {
		why             string
		program, number uint32
		want            Treatment
	}{
		{"opening", Remote, 1, Inspect},
		{"reading XML", Remote, 14, Pass},
		{"resuming", Remote, 28, Pass},
		{"a veto of FINISH would leave two halves", Remote, 63, Pass},
		{"likewise FINISH2", Remote, 109, Pass},
		{"likewise FINISH3", Remote, 217, Pass},
		{"likewise FINISH3_PARAMS", Remote, 306, Pass},
		{"likewise CONFIRM3", Remote, 218, Pass},
		{"likewise CONFIRM3_PARAMS", Remote, 307, Pass},
		{"no domain is on the other host yet", Remote, 303, Pass},
		{"attaching a device is for other guards", Remote, 8, Pass},
		{"a console is for people", Remote, 201, Pass},
		{"the last procedure of libvirt 12.8.0", Remote, 456, Pass},
		{"a newer libvirt's", Remote, 457, Unknown},
		{"a newer libvirt's of QEMU", QEMU, 8, Unknown},
		{"a program that nobody knows", 0x12345678, 1, Unknown},
		{"the administration's program is not served here", 0x06900690, 1, Unknown},
		{"a ping", 0x6b656570, 1, Pass},
		{"another's identity", Remote, 419, Identify},
		{"attaching to a process", QEMU, 2, Refuse},
		{"LXC's namespaces", LXC, 1, Pass},
	} {
		if got := Of(tt.program, tt.number); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.why, got, tt.want)
		}
	}
}

func TestACallIsReadAsLibvirtdReadsIt(t *testing.T) {
	for _, tt := range []struct {
		why             string
		program, number uint32
		args            args
		want            Call
	}{
		{"flags in words", Remote, 234, args{}.domain().u(1 | 2 | 1<<30),
			Call{Procedure: "DOMAIN_DESTROY_FLAGS", Live: true, EndsTransient: true, Operations: stops, UUID: webUUID, Flags: []string{"graceful", "remove_logs", "0x40000000"}}},
		{"garbage behind the arguments", Remote, 34, append(args{}.domain(), "28 bytes of no consequence..."...),
			Call{Procedure: "DOMAIN_SUSPEND", Live: true, Operations: pauses, UUID: webUUID, Flags: []string{}}},
		{"the number of descriptors stands before the arguments", QEMU, 7, args{}.command("x").u(0),
			Call{Procedure: "QEMU_DOMAIN_MONITOR_COMMAND_WITH_FILES", Live: true, Operations: stops, UUID: webUUID, Flags: []string{}, Command: "x"}},
		{"a command ends at its zero byte", QEMU, 1, args{}.command("info status\x00quit").u(1),
			Call{Procedure: "QEMU_DOMAIN_MONITOR_COMMAND", Live: true, UUID: webUUID, Flags: []string{"hmp"}, Command: "info status"}},
		{"a peer-to-peer migration", Remote, 305, args{}.domain().optional("qemu+tcp://b/system").u(1).param("migrate_uri", "tcp:b").string("").u(3),
			Call{Procedure: "DOMAIN_MIGRATE_PERFORM3_PARAMS", Live: true, Operations: []Operation{Move}, UUID: webUUID, Flags: []string{"live", "peer2peer"}, Destination: "qemu+tcp://b/system"}},
		{"another migration", Remote, 305, args{}.domain().none().u(2).param("migrate_uri", "tcp:b").param("migrate_uri", "tcp:c").string("").u(1),
			Call{Procedure: "DOMAIN_MIGRATE_PERFORM3_PARAMS", Live: true, Operations: []Operation{Move}, UUID: webUUID, Flags: []string{"live"}, Destination: "tcp:b"}},
		{"an old migration", Remote, 216, args{}.domain().none().string("").none().optional("tcp:b").hyper(1).none(),
			Call{Procedure: "DOMAIN_MIGRATE_PERFORM3", Live: true, Operations: []Operation{Move}, UUID: webUUID, Flags: []string{"live"}, Destination: "tcp:b"}},
		{"an older one", Remote, 62, args{}.domain().string("").string("tcp:b").hyper(1).none(),
			Call{Procedure: "DOMAIN_MIGRATE_PERFORM", Live: true, Operations: []Operation{Move}, UUID: webUUID, Flags: []string{"live"}, Destination: "tcp:b"}},
		{"one that is not live, and pauses the guest for as long as it takes", Remote, 305, args{}.domain().none().u(1).param("migrate_uri", "tcp:b").string("").u(0),
			Call{Procedure: "DOMAIN_MIGRATE_PERFORM3_PARAMS", Live: true, Operations: []Operation{Move, Pause}, UUID: webUUID, Flags: []string{}, Destination: "tcp:b"}},
		{"one after which the guest is paused", Remote, 302, args{}.domain().u(0).u(1 | 32),
			Call{Procedure: "DOMAIN_MIGRATE_BEGIN3_PARAMS", Live: true, Operations: []Operation{Move, Pause}, UUID: webUUID, Flags: []string{"live", "paused"}}},
		{"one that leaves no definition", Remote, 302, args{}.domain().u(0).u(1 | 16),
			Call{Procedure: "DOMAIN_MIGRATE_BEGIN3_PARAMS", Live: true, Operations: []Operation{Move, Delete}, UUID: webUUID, Flags: []string{"live", "undefine_source"}}},
		{"and other XML is a question of its own", Remote, 302, args{}.domain().u(1).param("destination_xml", definition).u(1 | 16),
			Call{Procedure: "DOMAIN_MIGRATE_BEGIN3_PARAMS", Live: true, IfMarkRemoved: true, Operations: []Operation{Move, Delete, Modify}, UUID: webUUID, Flags: []string{"live", "undefine_source"}, XML: definition}},
		{"one that takes the definition along", Remote, 302, args{}.domain().u(0).u(1 | 8 | 16),
			Call{Procedure: "DOMAIN_MIGRATE_BEGIN3_PARAMS", Live: true, Operations: []Operation{Move}, UUID: webUUID, Flags: []string{"live", "persist_dest", "undefine_source"}}},
		{"one of a domain that may be off", Remote, 302, args{}.domain().u(0).u(1024 | 8),
			Call{Procedure: "DOMAIN_MIGRATE_BEGIN3_PARAMS", Operations: []Operation{Move}, UUID: webUUID, Flags: []string{"persist_dest", "offline"}}},
		{"a migration to other XML and another name", Remote, 305, args{}.domain().none().u(3).param("destination_xml", definition).param("persistent_xml", "<later/>").param("destination_name", "other").string("").u(1),
			Call{Procedure: "DOMAIN_MIGRATE_PERFORM3_PARAMS", Live: true, IfMarkRemoved: true, Operations: []Operation{Move, Modify}, UUID: webUUID, Flags: []string{"live"}, XML: definition, PersistentXML: "<later/>", NewName: "other"}},
		{"the same, in its first step", Remote, 213, args{}.domain().optional(definition).hyper(1).optional("other"),
			Call{Procedure: "DOMAIN_MIGRATE_BEGIN3", Live: true, IfMarkRemoved: true, Operations: []Operation{Move, Modify}, UUID: webUUID, Flags: []string{"live"}, XML: definition, NewName: "other"}},
		{"the same, in its only step", Remote, 216, args{}.domain().optional(definition).string("").optional("qemu+tcp://b/system").none().hyper(3).optional("other"),
			Call{Procedure: "DOMAIN_MIGRATE_PERFORM3", Live: true, IfMarkRemoved: true, Operations: []Operation{Move, Modify}, UUID: webUUID, Flags: []string{"live", "peer2peer"}, XML: definition, NewName: "other", Destination: "qemu+tcp://b/system"}},
		{"what is saved has other XML", Remote, 232, args{}.domain().string("/x").optional(definition).u(0),
			Call{Procedure: "DOMAIN_SAVE_FLAGS", Live: true, IfMarkRemoved: true, Operations: []Operation{Stop, Modify}, UUID: webUUID, Flags: []string{}, XML: definition}},
		{"likewise", Remote, 440, args{}.domain().u(2).param("file", "/x").param("dxml", definition).u(0),
			Call{Procedure: "DOMAIN_SAVE_PARAMS", Live: true, IfMarkRemoved: true, Operations: []Operation{Stop, Modify}, UUID: webUUID, Flags: []string{}, XML: definition}},
		{"our metadata", Remote, 264, args{}.metadata(2).optional(Mark).u(1),
			Call{Procedure: "DOMAIN_SET_METADATA", Operations: []Operation{Modify}, UUID: webUUID, Flags: []string{"live"}}},
		{"our metadata, whatever is behind the zero byte", Remote, 264, args{}.metadata(2).optional(Mark + "\x00x").u(1),
			Call{Procedure: "DOMAIN_SET_METADATA", Operations: []Operation{Modify}, UUID: webUUID, Flags: []string{"live"}}},
		{"there is no other true than what is not zero", Remote, 264, args{}.domain().u(2).u(7).string("<x/>").u(8).string("p").u(9).string(Mark).u(1),
			Call{Procedure: "DOMAIN_SET_METADATA", Operations: []Operation{Modify}, UUID: webUUID, Flags: []string{"live"}}},
		{"a guest that sleeps in its memory", Remote, 261, args{}.domain().u(0).hyper(0).u(0),
			Call{Procedure: "DOMAIN_PM_SUSPEND_FOR_DURATION", Live: true, Operations: pauses, UUID: webUUID, Flags: []string{}}},
		{"a guest that sleeps on its disk is off", Remote, 261, args{}.domain().u(1).hyper(0).u(0),
			Call{Procedure: "DOMAIN_PM_SUSPEND_FOR_DURATION", Live: true, Operations: []Operation{Stop, Pause}, UUID: webUUID, Flags: []string{}}},
		{"every reset is to end the guest", Remote, 390, args{}.domain().u(1).u(0).u(1),
			Call{Procedure: "DOMAIN_SET_LIFECYCLE_ACTION", Operations: []Operation{Stop, Modify}, UUID: webUUID, Flags: []string{"live"}}},
		{"likewise, now or when it is started", Remote, 390, args{}.domain().u(1).u(3).u(0),
			Call{Procedure: "DOMAIN_SET_LIFECYCLE_ACTION", Operations: []Operation{Stop, Modify}, UUID: webUUID, Flags: []string{}}},
		{"not in this run", Remote, 390, args{}.domain().u(1).u(0).u(2),
			Call{Procedure: "DOMAIN_SET_LIFECYCLE_ACTION", Operations: []Operation{Modify}, UUID: webUUID, Flags: []string{"config"}}},
		{"a reset is to be one again", Remote, 390, args{}.domain().u(1).u(1).u(1),
			Call{Procedure: "DOMAIN_SET_LIFECYCLE_ACTION", Operations: []Operation{Modify}, UUID: webUUID, Flags: []string{"live"}}},
		{"what was saved is restored with other XML", Remote, restoreParams, args{}.u(2).param("file", "/x").param("dxml", definition).u(2),
			Call{Procedure: "DOMAIN_RESTORE_PARAMS", IfMarkRemoved: true, Operations: []Operation{Modify, Delete}, Subject: NewDomain, XML: definition, Flags: []string{"running"}}},
		{"likewise", Remote, 233, args{}.string("/x").none().u(0),
			Call{Procedure: "DOMAIN_RESTORE_FLAGS", IfMarkRemoved: true, Operations: []Operation{Modify, Delete}, Subject: NewDomain, Flags: []string{}}},
		{"somebody else's metadata", Remote, 264, args{}.metadata(2).optional("urn:other").u(1),
			Call{Procedure: "DOMAIN_SET_METADATA", UUID: webUUID, Flags: []string{"live"}}},
		{"a disk is detached", Remote, 161, args{}.command("<!-- x --><disk type='file'><target dev='vda'/></disk>").u(1),
			Call{Procedure: "DOMAIN_DETACH_DEVICE_FLAGS", Operations: []Operation{Modify}, UUID: webUUID, Flags: []string{"live"}}},
		{"another device is", Remote, 13, args{}.command("<interface type='user'/>"),
			Call{Procedure: "DOMAIN_DETACH_DEVICE", UUID: webUUID, Flags: []string{}}},
		{"a device is detached by its alias", Remote, 392, args{}.command("ua-data").u(0),
			Call{Procedure: "DOMAIN_DETACH_DEVICE_ALIAS", Operations: []Operation{Modify}, UUID: webUUID, Alias: "ua-data", Flags: []string{}}},
		{"a disk gets another size, in KiB", Remote, 251, args{}.command("vda").hyper(2048).u(0),
			Call{Procedure: "DOMAIN_BLOCK_RESIZE", Operations: []Operation{Delete}, UUID: webUUID, Disk: "vda", Size: 2 << 20, Flags: []string{}}},
		{"a disk gets another size, in bytes", Remote, 251, args{}.command("vda").hyper(2048).u(1),
			Call{Procedure: "DOMAIN_BLOCK_RESIZE", Operations: []Operation{Delete}, UUID: webUUID, Disk: "vda", Size: 2048, Flags: []string{"bytes"}}},
		{"a volume", Remote, 94, args{}.string("images").string("web.qcow2").string("/elsewhere").u(0),
			Call{Procedure: "STORAGE_VOL_DELETE", Subject: Storage, Operations: []Operation{Delete}, Pool: Pool{Name: "images"}, Volume: "web.qcow2", Flags: []string{}}},
		{"a title", Remote, 264, args{}.metadata(1).optional(Mark).u(1),
			Call{Procedure: "DOMAIN_SET_METADATA", UUID: webUUID, Flags: []string{"live"}}},
	} {
		t.Run(tt.why, func(t *testing.T) {
			if tt.want.UUID != "" {
				tt.want.Name = clientsName
			}
			got, err := Read(tt.program, tt.number, tt.args)
			if diff := cmp.Diff(tt.want, got); diff != "" || err != nil {
				t.Error(diff, err)
			}
		})
	}
}

// A row by mistake among these has a client told that the domain is off where libvirtd would have
// done something.
func TestWhatLibvirtdDoesToADomainThatIsOffIsNotTakenForLive(t *testing.T) {
	off := []string{"DOMAIN_SNAPSHOT_CREATE_XML", "DOMAIN_REVERT_TO_SNAPSHOT", "DOMAIN_SEND_PROCESS_SIGNAL", "NODE_SUSPEND_FOR_DURATION", "DOMAIN_SET_VCPUS_FLAGS", "DOMAIN_ABORT_JOB_FLAGS"}
	for _, rows := range [][]row{remoteRows, qemuRows} {
		for _, r := range rows {
			want := len(r.asks) > 0 && !r.deferred && r.asks[0].operation != Modify && r.asks[0].operation != Delete && !slices.Contains(off, r.name)
			if r.live != want {
				t.Errorf("%s: %v", r.name, r.live)
			}
		}
	}
}

func TestArgumentsThatAreNotThereAreAnError(t *testing.T) {
	for _, rows := range map[uint32][]row{Remote: remoteRows, QEMU: qemuRows} {
		for _, r := range rows {
			if len(r.asks) == 0 {
				continue
			}
			whole := filled(r.args, 0)
			for n := range whole {
				if _, err := read(r.args, whole[:n]); err == nil {
					t.Errorf("%s is read from %d of %d bytes", r.name, n, len(whole))
				}
			}
		}
	}
}
