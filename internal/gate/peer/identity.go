package peer

import (
	"errors"
	"fmt"
	"os"

	"github.com/stopguard/stopguard/internal/gate/wire"
	"github.com/stopguard/stopguard/internal/procstat"
	"github.com/stopguard/stopguard/policy"
)

// An Identity is the client that a daemon of libvirt's names as the caller. A daemon does not name
// a client that comes over the network.
type Identity struct {
	UID, GID int    // policy.UnknownID if they are not named
	User     string // "" if it is not named
	PID      int    // 0 if it is not named
	Start    uint64 // when the process started, as in /proc/PID/stat
}

// ErrIdentity is returned for an identity that libvirt does not send.
var ErrIdentity = errors.New("the identity is not as libvirt has one; look at the client")

// The fields of an identity that are read, as in libvirt-host.h. It may have others, such as the
// name of a SASL login, which is not a user of the host.
const (
	fieldUser  = "user-name"
	fieldUID   = "unix-user-id"
	fieldGID   = "unix-group-id"
	fieldPID   = "process-id"
	fieldStart = "process-time"
)

// ReadIdentity reads the arguments of CONNECT_SET_IDENTITY. libvirtd refuses unknown fields, and
// fields of another type. The gate itself also refuses the fields that it reads if they have
// another type.
func ReadIdentity(args []byte) (Identity, error) {
	const isInt, isUint, isLong, isUlong, isDouble, isBool, isString = 1, 2, 3, 4, 5, 6, 7
	types := map[string]uint32{fieldUser: isString, fieldUID: isUlong, fieldGID: isUlong, fieldPID: isLong, fieldStart: isUlong}
	id := Identity{UID: policy.UnknownID, GID: policy.UnknownID}
	seen := map[string]bool{}
	d := wire.Decode(args)
	for n := d.Uint32(); n > 0 && d.Err() == nil; n-- {
		field, kind := d.String(), d.Uint32()
		want, isRead := types[field]
		if isRead && kind != want || seen[field] {
			return Identity{}, ErrIdentity
		}
		seen[field] = true
		var number uint64
		switch kind {
		case isInt, isUint, isBool:
			d.Uint32()
		case isLong, isUlong, isDouble:
			number = d.Uint64()
		case isString:
			if text := d.String(); field == fieldUser {
				id.User = text
			}
		default:
			d.Fail()
		}
		const maxID, maxPID = 1<<32 - 2, 1<<31 - 1
		switch field {
		case fieldUID:
			id.UID = int(number)
		case fieldGID:
			id.GID = int(number)
		case fieldPID:
			id.PID = int(number)
		case fieldStart:
			id.Start = number
		}
		if (field == fieldUID || field == fieldGID) && number > maxID || field == fieldPID && number > maxPID {
			return Identity{}, ErrIdentity
		}
	}
	if d.Err() != nil {
		return Identity{}, ErrIdentity
	}
	return id, nil
}

// unknownService stands for the service of a root process that does not belong to a daemon of
// libvirt's.
const unknownService = "unknown"

// CallerOf returns the client with the identity as the caller of an operation, and the peer as the
// process that it comes through.
func (p Peer) CallerOf(id Identity) policy.Caller {
	c := policy.Caller{UID: id.UID, GID: id.GID, LoginUID: policy.UnknownID, User: id.User, Groups: []string{}, Via: p.Service, ViaPID: p.PID}
	if c.Via == "" {
		c.Via = unknownService
	}
	if id.UID == policy.UnknownID {
		c.User = ""
	} else if c.User == "" {
		c.User = userName(id.UID)
	}
	if id.GID != policy.UnknownID {
		c.Groups = groupNames(groupsOf(c.User, id.GID))
	}
	if id.PID > 0 && id.hasStarted() {
		c.PID, c.LoginUID = id.PID, loginUID(id.PID, id.hasStarted)
		c.Unit, c.Executable = program(id.PID, id.hasStarted)
	}
	return c
}

// hasStarted reports whether the process with the PID is the one that the identity means.
func (id Identity) hasStarted() bool {
	start, ok := startTime(id.PID)
	return ok && start == id.Start
}

// startTime returns the start time of a process, in clock ticks since the host started.
func startTime(pid int) (uint64, bool) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, false
	}
	return procstat.StartTime(string(data))
}
