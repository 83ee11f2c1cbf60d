package policy

import (
	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stopguard/stopguard/internal/operation"
	"github.com/stopguard/stopguard/policy/internal/document"
)

// Operations that a rule can be asked about. A hook asks about a stop only.
const (
	OperationStop   = operation.Stop   // ends the domain on this host, for good or to a file: destroy, shutdown, save, dump --crash
	OperationDelete = operation.Delete // destroys its definition, its saved state or its disks' data: undefine, vol-delete
	OperationPause  = operation.Pause  // holds its guest: suspend
	OperationReset  = operation.Reset  // starts its guest anew, whatever it does: reset, reboot
	OperationMove   = operation.Move   // takes it to another host: migrate
	OperationModify = operation.Modify // changes what protects it or what it is: rename, define anew, detach a disk, take its mark away
)

// Operations returns every operation that a rule can be asked about, [OperationStop] first.
func Operations() []string { return operation.All() }

// A Request describes how an operation was requested, if the enforcement point knows it. A hook
// does not.
type Request struct {
	// Procedure is the called procedure, in the words of the enforcement point, such as
	// "domain_shutdown_flags".
	Procedure string

	// Flags are the names of the flags that were set, such as "graceful".
	Flags []string

	// Command is the text of a monitor or agent command. It may hold passwords, and is not
	// recorded.
	Command string

	// Destination is the destination of a migration.
	Destination string
}

// UnknownID is the UID, LoginUID or GID of a [Caller] if it is not known: 0 would be root.
const UnknownID = -1

// A Caller is the client that requests an operation.
type Caller struct {
	UID      int    // UnknownID where it is not known
	LoginUID int    // the user who logged in, before any su or sudo; UnknownID where it is not known
	User     string // the name of UID; "" where it is not known
	GID      int    // UnknownID where it is not known

	// Groups are all groups of the caller by their names; one without a name is its number in
	// decimal digits.
	Groups []string

	PID      int  // 0 where it is not known
	ReadOnly bool // whether the connection may only read

	// Via is the process of root's that asks for the caller: a daemon of libvirt's, such as
	// "virtproxyd", or "unknown" for any other; "" if the caller asks directly. ViaPID is its PID,
	// which is recorded, and not part of the input.
	Via    string
	ViaPID int

	// Unit is the systemd unit that the caller's process belongs to, such as
	// "gitlab-runner.service", "session-3.scope" or, for all units of a user's own,
	// "user@1000.service"; "" where it is not known. Executable is the path of its program; ""
	// where it is not known, as where the enforcement point may not read it.
	Unit       string
	Executable string
}

func requestTerm(fields *document.Tree, r Request) *ast.Term {
	o := object{at: fields}
	o.text("procedure", r.Procedure)
	o.texts("flags", r.Flags)
	o.text("command", r.Command)
	o.text("destination", r.Destination)
	return o.term()
}

func callerTerm(fields *document.Tree, c *Caller) *ast.Term {
	if c == nil {
		c = &Caller{UID: UnknownID, LoginUID: UnknownID, GID: UnknownID}
	}
	o := object{at: fields}
	o.number("uid", c.UID)
	o.number("login_uid", c.LoginUID)
	o.text("user", c.User)
	o.number("gid", c.GID)
	o.texts("groups", c.Groups)
	o.number("pid", c.PID)
	o.flag("read_only", c.ReadOnly)
	o.text("via", c.Via)
	o.text("unit", c.Unit)
	o.text("executable", c.Executable)
	return o.term()
}
