package peer

import (
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/stopguard/stopguard/internal/gate/wire"
	"github.com/stopguard/stopguard/policy"
)

func TestAServiceIsKnownByItsControlGroup(t *testing.T) {
	for _, tt := range []struct{ why, cgroups, want string }{
		{"the second version of control groups", "0::/system.slice/virtproxyd.service\n", "virtproxyd"},
		{"the first, and both at once", "12:pids:/system.slice/virtnwfilterd.service\n1:name=systemd:/system.slice/virtnwfilterd.service\n0::/\n", "virtnwfilterd"},
		{"a monolithic daemon", "0::/system.slice/libvirtd.service\n", "libvirtd"},
		{"a slice of the operator's", "0::/virt.slice/virtproxyd.service/workers\n", "virtproxyd"},
		{"libvirt-guests asks for itself", "0::/system.slice/libvirt-guests.service\n", ""},
		{"a login", "0::/user.slice/user-0.slice/session-3.scope\n", ""},
		{"a unit that begins so", "0::/system.slice/virtproxyd.service.d/x\n", ""},
		{"a guest", "0::/machine.slice/machine-qemu\\x2d1\\x2dvirtproxyd.scope\n", ""},
		{"no control groups", "0::/\n", ""},
		{"nothing", "", ""},
	} {
		t.Run(tt.why, func(t *testing.T) {
			if got := serviceIn(tt.cgroups); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// A field of an identity.
type field struct {
	name  string
	kind  uint32
	value []byte
}

func number(n uint64) []byte {
	return wire.AppendUint32(wire.AppendUint32(nil, uint32(n>>32)), uint32(n))
}

func arguments(fields ...field) []byte {
	b := wire.AppendUint32(nil, uint32(len(fields)))
	for _, f := range fields {
		b = append(wire.AppendUint32(wire.AppendString(b, f.name), f.kind), f.value...)
	}
	return wire.AppendUint32(b, 0) // flags
}

func TestAnIdentityIsReadAsLibvirtSendsIt(t *testing.T) {
	const long, ulong, text = 3, 4, 7
	user := field{"user-name", text, wire.AppendString(nil, "alice")}
	uid, gid := field{"unix-user-id", ulong, number(1001)}, field{"unix-group-id", ulong, number(1002)}
	pid, start := field{"process-id", long, number(4711)}, field{"process-time", ulong, number(1 << 33)}
	unknown := Identity{UID: policy.UnknownID, GID: policy.UnknownID}
	for _, tt := range []struct {
		why    string
		fields []field
		want   Identity
		fails  bool
	}{
		{why: "virtproxyd's, of a client on its Unix socket", fields: []field{user, uid, {"group-name", text, wire.AppendString(nil, "staff")}, gid, pid, start},
			want: Identity{1001, 1002, "alice", 4711, 1 << 33}},
		{why: "of a client that comes by TCP", want: unknown},
		{why: "of one that has logged in by SASL", fields: []field{{"sasl-user-name", text, wire.AppendString(nil, "ops")}}, want: unknown},
		{why: "of root", fields: []field{{"unix-user-id", ulong, number(0)}}, want: Identity{UID: 0, GID: policy.UnknownID}},
		{why: "a user in a number of another type", fields: []field{{"unix-user-id", long, number(1001)}}, fails: true},
		{why: "a user in a string", fields: []field{{"unix-user-id", text, wire.AppendString(nil, "1001")}}, fails: true},
		{why: "a user beyond what the kernel has", fields: []field{{"unix-user-id", ulong, number(1<<32 - 1)}}, fails: true},
		{why: "a group beyond what the kernel has", fields: []field{{"unix-group-id", ulong, number(1 << 40)}}, fails: true},
		{why: "a negative process", fields: []field{{"process-id", long, number(1<<64 - 1)}}, fails: true},
		{why: "a field twice", fields: []field{uid, {"unix-user-id", ulong, number(0)}}, fails: true},
		{why: "a type that is none", fields: []field{{"x", 99, nil}}, fails: true},
		{why: "a field that is cut off", fields: []field{{"unix-user-id", ulong, nil}}, fails: true},
	} {
		t.Run(tt.why, func(t *testing.T) {
			got, err := ReadIdentity(arguments(tt.fields...))
			if (err != nil) != tt.fails {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); err == nil && diff != "" {
				t.Error(diff)
			}
		})
	}
	if _, err := ReadIdentity([]byte{0, 0, 0}); err == nil {
		t.Error("three bytes are an identity")
	}
}

func TestTheCallerIsTheIdentityOrThePeer(t *testing.T) {
	self := os.Getpid()
	start, ok := startTime(self)
	if !ok {
		t.Fatal("the start of this process is not known")
	}
	proxy := Peer{PID: 812, Service: "virtproxyd", LoginUID: 7}
	unknown := policy.Caller{UID: policy.UnknownID, GID: policy.UnknownID, LoginUID: policy.UnknownID, Via: "virtproxyd", ViaPID: 812}
	with := func(change func(*policy.Caller)) policy.Caller {
		c := unknown
		change(&c)
		return c
	}
	for _, tt := range []struct {
		why  string
		got  policy.Caller
		want policy.Caller
	}{
		{"libvirt's daemon has not said for whom it asks", proxy.Caller(), unknown},
		{"it asks for a client of the network", proxy.CallerOf(Identity{UID: policy.UnknownID, GID: policy.UnknownID}), unknown},
		{"a name without a user is not believed", proxy.CallerOf(Identity{UID: policy.UnknownID, GID: policy.UnknownID, User: "root"}), unknown},
		{"it asks for a user of this host", proxy.CallerOf(Identity{UID: 0, GID: 0, PID: self, Start: start}),
			with(func(c *policy.Caller) { c.UID, c.GID, c.PID, c.User, c.Groups = 0, 0, self, "root", []string{"root"} })},
		{"a user that only a directory knows", proxy.CallerOf(Identity{UID: 54321, GID: 54322, User: "alice"}),
			with(func(c *policy.Caller) { c.UID, c.GID, c.User, c.Groups = 54321, 54322, "alice", []string{"54322"} })},
		{"the process has ended, and another has its number", proxy.CallerOf(Identity{UID: 54321, GID: 54322, PID: self, Start: start + 1}),
			with(func(c *policy.Caller) { c.UID, c.GID, c.Groups = 54321, 54322, []string{"54322"} })},
		{"a process of root's that is no daemon asks for another", Peer{PID: 812}.CallerOf(Identity{UID: 54321, GID: 54322}),
			with(func(c *policy.Caller) { c.UID, c.GID, c.Groups, c.Via = 54321, 54322, []string{"54322"}, "unknown" })},
		{"a client asks for itself", Peer{UID: 54321, GID: 54322, PID: 4711, LoginUID: 54321, groups: []int{0}}.Caller(),
			policy.Caller{UID: 54321, GID: 54322, PID: 4711, LoginUID: 54321, Groups: []string{"54322", "root"}}},
	} {
		t.Run(tt.why, func(t *testing.T) {
			ignored := cmpopts.IgnoreFields(policy.Caller{})
			if tt.got.PID == self { // the test's own
				ignored = cmpopts.IgnoreFields(policy.Caller{}, "LoginUID", "Unit", "Executable")
			}
			if diff := cmp.Diff(tt.want, tt.got, cmpopts.EquateEmpty(), ignored); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestGroupsAreThoseThatTheHostListsForTheUser(t *testing.T) {
	if got := groupNames(groupsOf("root", 0)); !slices.Contains(got, "root") {
		t.Errorf("root is in %q", got)
	}
}

func TestAUnitIsTheOutermost(t *testing.T) {
	for _, tt := range []struct{ why, cgroups, want string }{
		{"a service", "0::/system.slice/gitlab-runner.service\n", "gitlab-runner.service"},
		{"below a service", "0::/system.slice/gitlab-runner.service/job\n", "gitlab-runner.service"},
		{"a login", "0::/user.slice/user-1000.slice/session-3.scope\n", "session-3.scope"},
		{"a user's own units may have any name", "0::/user.slice/user-1000.slice/user@1000.service/app.slice/gitlab-runner.service\n", "user@1000.service"},
		{"the first version of control groups", "12:pids:/x.service\n1:name=systemd:/system.slice/cron.service\n", "cron.service"},
		{"a container", "0::/system.slice/docker-4f1a.scope\n", "docker-4f1a.scope"},
		{"no unit", "0::/\n", ""},
		{"nothing", "", ""},
	} {
		t.Run(tt.why, func(t *testing.T) {
			if got := unitIn(tt.cgroups); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func TestTheKernelShowsAProgram(t *testing.T) {
	self, err := os.Executable()
	must(t, err)
	if _, executable := program(os.Getpid(), func() bool { return true }); executable != self {
		t.Errorf("%q, want %q", executable, self)
	}
	if unit, executable := program(os.Getpid(), func() bool { return false }); unit != "" || executable != "" {
		t.Errorf("of another process: %q, %q", unit, executable)
	}
}
