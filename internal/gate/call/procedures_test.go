package call

import (
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A procedure is one of libvirt's, as its protocol description has it: see testdata/procedures.txt.
type procedure struct {
	program, number uint32
	name            string
	args            []string
}

func procedures(t *testing.T) []procedure {
	t.Helper()
	content, err := os.ReadFile("testdata/procedures.txt")
	if err != nil {
		t.Fatal(err)
	}
	var all []procedure
	for line := range strings.Lines(string(content)) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] == "#" {
			continue
		}
		number, err := strconv.ParseUint(fields[1], 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		p := procedure{map[string]uint32{"remote": Remote, "qemu": QEMU, "lxc": LXC}[fields[0]], uint32(number), fields[2], fields[3:]}
		if p.program == QEMU {
			p.name = "QEMU_" + p.name
		}
		all = append(all, p)
	}
	if len(all) < 400 {
		t.Fatalf("%d procedures only", len(all))
	}
	return all
}

// types are those that a letter of a layout reads.
var types = map[rune][]string{
	'D': {"domain"}, 'N': {"snapshot", "checkpoint"}, 'V': {"storage_vol"}, 'P': {"storage_pool"}, 'x': {"string"}, 'o': {"string?"}, 's': {"string"}, 'S': {"string?"}, 'a': {"string[]"},
	'c': {"opaque[]"}, 'p': {"param[]"}, 'u': {"int", "uint"}, 'U': {"hyper", "uhyper"}, 'A': {"uint[]"}, 'f': {"uint"}, 'F': {"uhyper"},
}

func TestEveryRowIsAsLibvirtHasTheProcedure(t *testing.T) {
	known := map[*row]bool{}
	for _, p := range procedures(t) {
		r := table[p.program][p.number]
		if r == nil {
			continue
		}
		known[r] = true
		if r.name != p.name {
			t.Errorf("%d is %s, and not %s", p.number, p.name, r.name)
		}
		if len(r.args) > len(p.args) {
			t.Errorf("%s has %d arguments, and not %s", p.name, len(p.args), r.args)
			continue
		}
		for i, letter := range r.args {
			if !slices.Contains(types[letter], p.args[i]) {
				t.Errorf("argument %d of %s is %s, and no %q", i+1, p.name, p.args[i], letter)
			}
		}
		// Flags come last, and decide what a call does: a row that stops before them would read
		// none.
		hasFlags := len(r.asks) > 0 && p.args[len(p.args)-1] == "uint"
		switch {
		case hasFlags && !strings.HasSuffix(r.args, "f"):
			t.Errorf("the row of %s, %s, leaves its flags out", p.name, r.args)
		case hasFlags && len(r.args) != len(p.args):
			t.Errorf("the flags of %s are its argument %d", p.name, len(p.args))
		case r.flags != nil && !strings.ContainsAny(r.args, "fF"):
			t.Errorf("%s has no flags", p.name)
		}
	}
	for program, rows := range table {
		for number, r := range rows {
			if !known[r] {
				t.Errorf("libvirt has no %s (%d of %#x)", r.name, number, program)
			}
		}
	}
}

// passed are the procedures about a domain that pass without a decision, and why.
var passed = map[string][]string{
	"it only reads, or looks a domain up": strings.Fields(`GET_XML_DESC GET_AUTOSTART GET_INFO GET_MAX_MEMORY GET_MAX_VCPUS GET_OS_TYPE GET_VCPUS LOOKUP_BY_ID
		LOOKUP_BY_NAME LOOKUP_BY_UUID GET_SCHEDULER_TYPE GET_SCHEDULER_PARAMETERS BLOCK_STATS INTERFACE_STATS BLOCK_PEEK MEMORY_PEEK
		GET_SECURITY_LABEL IS_ACTIVE IS_PERSISTENT MEMORY_STATS GET_JOB_INFO HAS_MANAGED_SAVE_IMAGE SNAPSHOT_GET_XML_DESC
		SNAPSHOT_NUM SNAPSHOT_LIST_NAMES SNAPSHOT_LOOKUP_BY_NAME HAS_CURRENT_SNAPSHOT SNAPSHOT_CURRENT GET_BLOCK_INFO
		GET_MEMORY_PARAMETERS GET_VCPUS_FLAGS IS_UPDATED GET_BLKIO_PARAMETERS SCREENSHOT GET_STATE GET_SCHEDULER_PARAMETERS_FLAGS
		GET_CONTROL_INFO GET_VCPU_PIN_INFO SAVE_IMAGE_GET_XML_DESC GET_BLOCK_JOB_INFO MIGRATE_GET_MAX_SPEED BLOCK_STATS_FLAGS
		SNAPSHOT_GET_PARENT SNAPSHOT_NUM_CHILDREN SNAPSHOT_LIST_CHILDREN_NAMES GET_BLOCK_IO_TUNE GET_NUMA_PARAMETERS
		GET_INTERFACE_PARAMETERS GET_CPU_STATS GET_DISK_ERRORS GET_METADATA SNAPSHOT_IS_CURRENT SNAPSHOT_HAS_METADATA
		LIST_ALL_SNAPSHOTS SNAPSHOT_LIST_ALL_CHILDREN GET_HOSTNAME GET_SECURITY_LABEL_LIST GET_EMULATOR_PIN_INFO GET_JOB_STATS
		MIGRATE_GET_COMPRESSION_CACHE GET_TIME CONNECT_GET_ALL_DOMAIN_STATS GET_FSINFO GET_IOTHREAD_INFO INTERFACE_ADDRESSES
		GET_PERF_EVENTS GET_GUEST_VCPUS MIGRATE_GET_MAX_DOWNTIME MANAGED_SAVE_GET_XML_DESC GET_LAUNCH_SECURITY_INFO
		CHECKPOINT_GET_XML_DESC LIST_ALL_CHECKPOINTS CHECKPOINT_LIST_ALL_CHILDREN CHECKPOINT_LOOKUP_BY_NAME CHECKPOINT_GET_PARENT
		GET_GUEST_INFO BACKUP_GET_XML_DESC AUTHORIZED_SSH_KEYS_GET GET_MESSAGES START_DIRTY_RATE_CALC GET_AUTOSTART_ONCE`),
	"it subscribes to events":                                  strings.Fields("CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY QEMU_CONNECT_DOMAIN_MONITOR_EVENT_REGISTER"),
	"it starts or resumes a domain, or ends what pauses it":    strings.Fields("CREATE RESUME RESTORE PM_WAKEUP FSTHAW SET_LAUNCH_SECURITY_STATE"),
	"it is a person at a console or a screen":                  strings.Fields("OPEN_CONSOLE OPEN_CHANNEL OPEN_GRAPHICS OPEN_GRAPHICS_FD GRAPHICS_RELOAD"),
	"it is for devices and disks":                              strings.Fields("ANNOUNCE_INTERFACE ATTACH_DEVICE ATTACH_DEVICE_FLAGS UPDATE_DEVICE_FLAGS BLOCK_COPY BLOCK_JOB_SET_SPEED SET_BLOCK_THRESHOLD FD_ASSOCIATE"),
	"it is for limits and tuning":                              strings.Fields("PIN_VCPU PIN_VCPU_FLAGS PIN_EMULATOR PIN_IOTHREAD SET_MAX_MEMORY SET_MEMORY SET_MEMORY_FLAGS SET_MEMORY_PARAMETERS SET_MEMORY_STATS_PERIOD SET_VCPUS SET_VCPU SET_SCHEDULER_PARAMETERS SET_SCHEDULER_PARAMETERS_FLAGS SET_BLKIO_PARAMETERS SET_BLOCK_IO_TUNE SET_NUMA_PARAMETERS SET_INTERFACE_PARAMETERS SET_PERF_EVENTS ADD_IOTHREAD DEL_IOTHREAD SET_IOTHREAD_PARAMS SET_THROTTLE_GROUP DEL_THROTTLE_GROUP AGENT_SET_RESPONSE_TIMEOUT"),
	"no domain is on the other host yet":                       strings.Fields("MIGRATE_PREPARE MIGRATE_PREPARE2 MIGRATE_PREPARE_TUNNEL MIGRATE_PREPARE3 MIGRATE_PREPARE_TUNNEL3 MIGRATE_PREPARE3_PARAMS MIGRATE_PREPARE_TUNNEL3_PARAMS"),
	"a veto would leave two halves of a domain":                strings.Fields("MIGRATE_FINISH MIGRATE_FINISH2 MIGRATE_FINISH3 MIGRATE_CONFIRM3 MIGRATE_FINISH3_PARAMS MIGRATE_CONFIRM3_PARAMS"),
	"it is about a job that was decided":                       strings.Fields("ABORT_JOB MIGRATE_SET_MAX_SPEED MIGRATE_SET_COMPRESSION_CACHE"),
	"it copies, and the domain goes on":                        strings.Fields("CHECKPOINT_CREATE_XML BACKUP_BEGIN"),
	"the guest runs on; so do the same commands for its agent": strings.Fields("FSTRIM SET_TIME"),
	"it enters a container's namespaces":                       strings.Fields("OPEN_NAMESPACE"),
}

func TestEveryProcedureAboutADomainIsDecidedOrPassesForAReason(t *testing.T) {
	why := map[string]string{}
	for reason, names := range passed {
		for _, name := range names {
			if why[name] != "" {
				t.Errorf("%s passes twice", name)
			}
			why[name] = reason
		}
	}
	highest := map[uint32]uint32{}
	for _, p := range procedures(t) {
		highest[p.program] = max(highest[p.program], p.number)
		isMessage := len(p.args) == 0 && strings.Contains(p.name, "EVENT") // libvirtd sends it
		about := slices.ContainsFunc(p.args, func(a string) bool {
			return slices.Contains([]string{"domain", "domain[]", "snapshot", "checkpoint"}, strings.TrimSuffix(a, "?"))
		})
		if isMessage || !about && !strings.HasPrefix(p.name, "DOMAIN_") {
			continue
		}
		name := strings.TrimPrefix(p.name, "DOMAIN_")
		held := table[p.program][p.number] != nil
		switch {
		case !held && why[name] == "":
			t.Errorf("%s (%d) is not decided, and nothing says why", p.name, p.number)
		case held && why[name] != "":
			t.Errorf("%s is decided, though %s", p.name, why[name])
		}
		delete(why, name)
	}
	for name, reason := range why {
		t.Errorf("libvirt has no %s, of which %s", name, reason)
	}
	if !maps.Equal(highest, known) {
		t.Errorf("the highest procedures are %v, and %v are known", highest, known)
	}
}
