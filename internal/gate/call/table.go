package call

import "slices"

// The programs on libvirt's socket.
const (
	Remote uint32 = 0x20008086 // Remote is the program of all drivers.
	QEMU   uint32 = 0x20008087 // QEMU is the program of that driver only.
	LXC    uint32 = 0x00068000 // LXC is the program of that driver only.

	keepalive uint32 = 0x6b656570
)

// setIdentity is CONNECT_SET_IDENTITY.
const setIdentity = 419

// NewestLibvirt is the newest libvirt whose procedures the table has.
const NewestLibvirt = "12.8.0"

// known is the highest procedure of each program in NewestLibvirt, as testdata/procedures.txt has
// them. A higher one is Unknown.
var known = map[uint32]uint32{Remote: 456, QEMU: 7, LXC: 1}

// A row is one procedure that may do something to a domain.
type row struct {
	number   uint32
	name     string
	args     string // the layout of its arguments; see arguments
	flags    flagNames
	subject  Subject
	asks     []ask
	deferred bool // the operation comes later, when it cannot be refused; the domain may be off

	// ifMarkRemoved is set if the call brings XML for this run of the domain. It then modifies and
	// deletes only if that XML does not keep the marks.
	ifMarkRemoved bool

	// endsTransient is set if the call ends a run. A transient domain is gone then.
	endsTransient bool

	// live is set if libvirtd makes the call for a running domain only. offlineFlags are the flags
	// with which it makes the call for one that is off as well.
	live         bool
	offlineFlags uint64

	// refine changes the call by arguments that only this procedure has; nil if there are no such
	// arguments.
	refine func(arguments, *Call)

	// check refuses arguments that no client may use, whatever the policy; nil for a row that is
	// decided.
	check func(arguments) error
}

// An ask is an operation that is decided if the flags match.
type ask struct {
	operation Operation
	with      uint64 // if one of these is set; 0 means always
	without   uint64 // unless one of these is set
}

func always(o Operation) []ask { return []ask{{operation: o}} }

// libvirt's flags that change the effect of a call.
const (
	dumpCrash, dumpLive, dumpReset, dumpMemoryOnly                 = 1, 2, 8, 16
	snapshotRedefine, snapshotHalt, snapshotDiskOnly, snapshotLive = 1, 8, 16, 256
	startAutodestroy, startForceBoot                               = 2, 8
	monitorHMP                                                     = 1
	vcpuGuest                                                      = 8
	abortPostCopy                                                  = 1
	onlyConfig                                                     = 2
	migrateLive, migratePaused, migrateOffline                     = 1, 32, 1024
	migratePersist, migrateUndefine                                = 8, 16
	rebaseCopy                                                     = 8
	jobPivot                                                       = 2
	resizeBytes, resizeCapacity, resizeExtend                      = 1, 2, 4
	volumeShrink                                                   = 4
	poolOverwrite                                                  = 8
	createBuild, createOverwrite, createNoOverwrite                = 1, 2, 4
)

// moves: unless a migration is live, the guest is paused while its memory goes, for as long as the
// other end takes. One that undefines the domain here and defines it nowhere else leaves no
// definition.
var moves = []ask{{Move, 0, 0}, {Pause, 0, migrateLive | migrateOffline}, {Pause, migratePaused, migrateOffline}, {Delete, migrateUndefine, migratePersist}}

// remoteRows are the procedures that can be decided about. All others pass: those that only read,
// start or resume; the last steps of a migration (CONFIRM and FINISH), because a veto would leave
// two halves of a domain; the first steps on the other host (PREPARE), which does not have the
// domain yet; those that may damage a guest by its devices, or let a person type into it.
var remoteRows = []row{
	// Stop.
	{number: 12, name: "DOMAIN_DESTROY", live: true, endsTransient: true, args: "D", asks: always(Stop)},
	{number: 234, name: "DOMAIN_DESTROY_FLAGS", live: true, endsTransient: true, args: "Df", flags: destroyFlags, asks: always(Stop)},
	{number: 33, name: "DOMAIN_SHUTDOWN", live: true, args: "D", asks: always(Stop)},
	{number: 258, name: "DOMAIN_SHUTDOWN_FLAGS", live: true, args: "Df", flags: shutdownFlags, asks: always(Stop)},
	{number: 55, name: "DOMAIN_SAVE", live: true, args: "Ds", asks: always(Stop)},
	{number: 232, name: "DOMAIN_SAVE_FLAGS", live: true, args: "DsSf", flags: saveFlags, asks: always(Stop), refine: setSavedXML},
	{number: 440, name: "DOMAIN_SAVE_PARAMS", live: true, args: "Dpf", flags: saveFlags, asks: always(Stop), refine: setSavedXMLParam},
	{number: 182, name: "DOMAIN_MANAGED_SAVE", live: true, args: "Df", flags: saveFlags, asks: always(Stop)},
	// QEMU pauses a guest for a dump of its memory alone, also where libvirt is asked for one of a
	// guest that runs on.
	{number: 53, name: "DOMAIN_CORE_DUMP", live: true, args: "Dsf", flags: dumpFlags,
		asks: []ask{{Stop, dumpCrash, 0}, {Reset, dumpReset, 0}, {Pause, 0, dumpLive}, {Pause, dumpMemoryOnly, 0}}},
	{number: 334, name: "DOMAIN_CORE_DUMP_WITH_FORMAT", live: true, args: "Dsuf", flags: dumpFlags,
		asks: []ask{{Stop, dumpCrash, 0}, {Reset, dumpReset, 0}, {Pause, 0, dumpLive}, {Pause, dumpMemoryOnly, 0}}},
	{number: 185, name: "DOMAIN_SNAPSHOT_CREATE_XML", args: "Dsf", flags: snapshotFlags,
		asks: []ask{{Stop, snapshotHalt, 0}, {Pause, 0, snapshotLive | snapshotDiskOnly | snapshotRedefine}}},
	// The run is lost, and the definition becomes the snapshot's.
	{number: 192, name: "DOMAIN_REVERT_TO_SNAPSHOT", args: "Nf", flags: revertFlags, asks: []ask{{Stop, 0, 0}, {Modify, 0, 0}}},
	// Closing the connection, which is not a call, ends a domain that was started with autodestroy.
	// A boot that is forced throws a managed save away. A domain that is there runs as the XML has
	// it. If that has not its mark, it is another domain in the place of the one that was
	// protected.
	{number: 10, name: "DOMAIN_CREATE_XML", args: "xf", flags: startFlags, subject: NewDomain, ifMarkRemoved: true, asks: []ask{{Stop, startAutodestroy, 0}, {Modify, 0, 0}, {Delete, 0, 0}}, deferred: true},
	{number: 196, name: "DOMAIN_CREATE_WITH_FLAGS", args: "Df", flags: startFlags, asks: []ask{{Stop, startAutodestroy, 0}, {Delete, startForceBoot, 0}}, deferred: true},
	{number: 309, name: "DOMAIN_CREATE_XML_WITH_FILES", args: "xf", flags: startFlags, subject: NewDomain, ifMarkRemoved: true, asks: []ask{{Stop, startAutodestroy, 0}, {Modify, 0, 0}, {Delete, 0, 0}}, deferred: true},
	{number: 310, name: "DOMAIN_CREATE_WITH_FILES", args: "Df", flags: startFlags, asks: []ask{{Stop, startAutodestroy, 0}, {Delete, startForceBoot, 0}}, deferred: true},

	// The same as commands for the guest agent, by procedures of their own; see agentCommands. A
	// flag has the guest take its CPUs offline.
	{number: 357, name: "DOMAIN_SET_USER_PASSWORD", live: true, args: "DSSf", flags: passwordFlags, asks: always(Stop)},
	{number: 425, name: "DOMAIN_AUTHORIZED_SSH_KEYS_SET", live: true, args: "Dsaf", flags: sshKeysFlags, asks: always(Stop)},
	{number: 372, name: "DOMAIN_SET_GUEST_VCPUS", live: true, args: "Dsuf", asks: always(Stop)},
	{number: 199, name: "DOMAIN_SET_VCPUS_FLAGS", args: "Duf", flags: vcpuFlags, asks: []ask{{Stop, vcpuGuest, 0}}},

	// Reset.
	{number: 27, name: "DOMAIN_REBOOT", live: true, args: "Df", flags: shutdownFlags, asks: always(Reset)},
	{number: 245, name: "DOMAIN_RESET", live: true, args: "Df", asks: always(Reset)},
	{number: 210, name: "DOMAIN_INJECT_NMI", live: true, args: "Df", asks: always(Reset)}, // the guest may crash
	{number: 226, name: "DOMAIN_SEND_KEY", live: true, args: "DuuAf", asks: always(Reset), refine: byKeys},
	{number: 295, name: "DOMAIN_SEND_PROCESS_SIGNAL", args: "DUuf", asks: always(Reset)}, // of a container's init

	// Pause.
	{number: 34, name: "DOMAIN_SUSPEND", live: true, args: "D", asks: always(Pause)},
	{number: 261, name: "DOMAIN_PM_SUSPEND_FOR_DURATION", live: true, args: "DuUf", asks: always(Pause), refine: refineSuspend},
	{number: 335, name: "DOMAIN_FSFREEZE", live: true, args: "Daf", asks: always(Pause)},
	{number: 166, name: "DOMAIN_MIGRATE_SET_MAX_DOWNTIME", live: true, args: "DUf", asks: always(Pause)},
	{number: 364, name: "DOMAIN_MIGRATE_START_POST_COPY", live: true, args: "Df", asks: always(Pause)},
	// Without its memory's source, a guest that runs on the other host already waits there.
	{number: 442, name: "DOMAIN_ABORT_JOB_FLAGS", args: "Df", flags: abortFlags, asks: []ask{{Pause, abortPostCopy, 0}}},
	{number: 250, name: "NODE_SUSPEND_FOR_DURATION", args: "uUf", subject: EveryRunning, asks: always(Pause)},

	// Move. A migration between two hosts begins with BEGIN; one that the source makes by itself
	// with PERFORM.
	{number: 302, name: "DOMAIN_MIGRATE_BEGIN3_PARAMS", live: true, offlineFlags: migrateOffline, args: "Dpf", flags: migrationFlags, asks: moves, refine: setParamsTarget},
	{number: 305, name: "DOMAIN_MIGRATE_PERFORM3_PARAMS", live: true, offlineFlags: migrateOffline, args: "DSpcf", flags: migrationFlags, asks: moves, refine: setParamsTarget},
	{number: 213, name: "DOMAIN_MIGRATE_BEGIN3", live: true, offlineFlags: migrateOffline, args: "DSFS", flags: migrationFlags, asks: moves, refine: setBeginTarget},
	{number: 216, name: "DOMAIN_MIGRATE_PERFORM3", live: true, offlineFlags: migrateOffline, args: "DScSSFS", flags: migrationFlags, asks: moves, refine: setPerformTarget},
	{number: 62, name: "DOMAIN_MIGRATE_PERFORM", live: true, offlineFlags: migrateOffline, args: "DcsFS", flags: migrationFlags, asks: moves, refine: setPerformTargetV1},

	// Delete.
	{number: 35, name: "DOMAIN_UNDEFINE", args: "D", asks: always(Delete)},
	{number: 231, name: "DOMAIN_UNDEFINE_FLAGS", args: "Df", flags: undefineFlags, asks: always(Delete)},
	{number: 184, name: "DOMAIN_MANAGED_SAVE_REMOVE", args: "Df", asks: always(Delete)},

	// Delete the data of disks. To make a volume smaller needs a flag.
	{number: 94, name: "STORAGE_VOL_DELETE", args: "Vf", subject: Storage, asks: always(Delete)},
	{number: 165, name: "STORAGE_VOL_WIPE", args: "Vf", subject: Storage, asks: always(Delete)},
	{number: 259, name: "STORAGE_VOL_WIPE_PATTERN", args: "Vuf", subject: Storage, asks: always(Delete)},
	{number: 260, name: "STORAGE_VOL_RESIZE", args: "VUf", flags: volumeResizeFlags, subject: Storage, asks: []ask{{Delete, volumeShrink, 0}}},
	{number: 208, name: "STORAGE_VOL_UPLOAD", args: "VUUf", subject: Storage, asks: always(Delete)},
	// Without overwrite libvirt writes to the pool's device if libblkid finds nothing on it, which
	// does not know a qcow2 image (virStorageBackendBLKIDFindEmpty in libvirt 9.0.0's
	// storage_util.c).
	{number: 79, name: "STORAGE_POOL_BUILD", args: "Pf", flags: poolBuildFlags, subject: Storage, asks: always(Delete), refine: setBuild},
	{number: 78, name: "STORAGE_POOL_CREATE", args: "Pf", flags: poolCreateFlags, subject: Storage, asks: []ask{{Delete, createBuild | createOverwrite | createNoOverwrite, 0}}, refine: setCreate},
	{number: 76, name: "STORAGE_POOL_CREATE_XML", args: "sf", flags: poolCreateFlags, subject: Storage, asks: []ask{{Delete, createBuild | createOverwrite | createNoOverwrite, 0}}, refine: setNewPool},
	{number: 81, name: "STORAGE_POOL_DELETE", args: "Pf", subject: Storage, asks: always(Delete)},
	{number: 251, name: "DOMAIN_BLOCK_RESIZE", args: "DsUf", flags: blockResizeFlags, asks: []ask{{Delete, 0, resizeCapacity | resizeExtend}}, refine: setSize},

	// Modify.
	{number: 13, name: "DOMAIN_DETACH_DEVICE", args: "Ds", asks: always(Modify), refine: passOtherDevices},
	{number: 161, name: "DOMAIN_DETACH_DEVICE_FLAGS", args: "Dsf", flags: impactFlags, asks: always(Modify), refine: passOtherDevices},
	{number: 392, name: "DOMAIN_DETACH_DEVICE_ALIAS", args: "Dsf", flags: impactFlags, asks: always(Modify), refine: setAlias},
	{number: 193, name: "DOMAIN_SNAPSHOT_DELETE", args: "Nf", flags: snapshotDeleteFlags, asks: always(Modify)},
	{number: 417, name: "DOMAIN_CHECKPOINT_DELETE", args: "Nf", flags: snapshotDeleteFlags, asks: always(Modify)},
	{number: 290, name: "DOMAIN_BLOCK_COMMIT", args: "DsSSUf", flags: commitFlags, asks: always(Modify)},
	{number: 240, name: "DOMAIN_BLOCK_PULL", args: "DsUf", flags: pullFlags, asks: always(Modify)},
	{number: 266, name: "DOMAIN_BLOCK_REBASE", args: "DsSUf", flags: rebaseFlags, asks: []ask{{Modify, 0, rebaseCopy}}},
	{number: 237, name: "DOMAIN_BLOCK_JOB_ABORT", args: "Dsf", flags: jobAbortFlags, asks: []ask{{Modify, jobPivot, 0}}},
	{number: 264, name: "DOMAIN_SET_METADATA", args: "DuSSSf", flags: impactFlags, asks: always(Modify), refine: passOtherMetadata},
	{number: 11, name: "DOMAIN_DEFINE_XML", args: "x", subject: NewDefinition, asks: always(Modify)},
	{number: 350, name: "DOMAIN_DEFINE_XML_FLAGS", args: "xf", flags: defineFlags, subject: NewDefinition, asks: always(Modify)},
	{number: 358, name: "DOMAIN_RENAME", args: "DSf", asks: always(Modify)},
	{number: 390, name: "DOMAIN_SET_LIFECYCLE_ACTION", args: "Duuf", flags: impactFlags, asks: always(Modify), refine: refineLifecycle},
	{number: 29, name: "DOMAIN_SET_AUTOSTART", args: "Du", asks: always(Modify)},
	{number: 450, name: "DOMAIN_SET_AUTOSTART_ONCE", args: "Du", asks: always(Modify)},
	{number: 389, name: "DOMAIN_MANAGED_SAVE_DEFINE_XML", args: "DSf", flags: saveFlags, asks: always(Modify)},
	{number: 233, name: "DOMAIN_RESTORE_FLAGS", args: "sof", flags: saveFlags, subject: NewDomain, ifMarkRemoved: true, asks: []ask{{Modify, 0, 0}, {Delete, 0, 0}}},
	{number: 441, name: "DOMAIN_RESTORE_PARAMS", args: "pf", flags: saveFlags, subject: NewDomain, ifMarkRemoved: true, asks: []ask{{Modify, 0, 0}, {Delete, 0, 0}}, refine: setRestoredXML},
	{number: 236, name: "DOMAIN_SAVE_IMAGE_DEFINE_XML", args: "sxf", flags: saveFlags, subject: NewDomain, asks: always(Modify)},

	// The name is opened with libvirtd's own rights.
	{number: 1, name: "CONNECT_OPEN", args: "S", check: checkName},

	// From then on the client acts as another user; libvirtd requires no more than connect:write.
	{number: setIdentity, name: "CONNECT_SET_IDENTITY"},
}

var qemuRows = []row{
	{number: 1, name: "QEMU_DOMAIN_MONITOR_COMMAND", live: true, args: "Dsf", flags: monitorFlags, asks: always(Stop), refine: setMonitorCommand},
	{number: 7, name: "QEMU_DOMAIN_MONITOR_COMMAND_WITH_FILES", live: true, args: "Dsf", flags: monitorFlags, asks: always(Stop), refine: setMonitorCommand},
	{number: 3, name: "QEMU_DOMAIN_AGENT_COMMAND", live: true, args: "Dsuf", asks: always(Stop), refine: setAgentCommand},

	// It names a process and not a domain, so it cannot be decided. libvirt has refused it since
	// 5.5.0.
	{number: 2, name: "QEMU_DOMAIN_ATTACH"},
}

// table has the rows by program and number.
var table = func() map[uint32]map[uint32]*row {
	t := map[uint32]map[uint32]*row{Remote: {}, QEMU: {}}
	for program, rows := range map[uint32][]row{Remote: remoteRows, QEMU: qemuRows} {
		for i := range rows {
			t[program][rows[i].number] = &rows[i]
		}
	}
	return t
}()

// Of returns the treatment of a procedure's calls.
func Of(program, procedure uint32) Treatment {
	r := table[program][procedure]
	switch {
	case r != nil && r.check != nil:
		return Inspect
	case program == Remote && procedure == setIdentity:
		return Identify
	case r != nil && len(r.asks) == 0:
		return Refuse
	case r != nil:
		return Hold
	case program == keepalive || procedure <= known[program]:
		return Pass
	}
	return Unknown
}

// OnlyOperation returns the operation of every call of a procedure, by the procedure's name. It
// returns "" if the operation depends on the call, or the table does not have the procedure.
func OnlyOperation(procedure string) Operation {
	for _, rows := range table {
		for _, r := range rows {
			isOther := func(a ask) bool { return a.operation != r.asks[0].operation }
			if r.name == procedure && len(r.asks) > 0 && !slices.ContainsFunc(r.asks, isOther) {
				return r.asks[0].operation
			}
		}
	}
	return ""
}

// Name returns a procedure's name, or its number in words if the table does not have it.
func Name(program, procedure uint32) string {
	if r := table[program][procedure]; r != nil {
		return r.name
	}
	return unnamed(program, procedure)
}
