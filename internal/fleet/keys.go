package fleet

import (
	"encoding/json"
	"net/url"
	"strings"
)

// The keys in etcd. A host may write below its own folder and below the reservations.
//
//	/stopguard/hosts/HOST/known             the host has joined at some time; without a lease
//	/stopguard/hosts/HOST/self              the host's agent runs; it has the lease of the members
//	/stopguard/hosts/HOST/change            the host's last change of its members
//	/stopguard/hosts/HOST/members/UUID      a running member
//	/stopguard/reservations/GROUP/UUID/HOST a reservation, with a lease of its own
const (
	root             = "/stopguard/"
	hostsRoot        = root + "hosts/"
	reservationsRoot = root + "reservations/"
)

func hostRoot(host string) string        { return hostsRoot + url.PathEscape(host) + "/" }
func knownKey(host string) string        { return hostRoot(host) + "known" }
func selfKey(host string) string         { return hostRoot(host) + "self" }
func changeKey(host string) string       { return hostRoot(host) + "change" }
func membersRoot(host string) string     { return hostRoot(host) + "members/" }
func memberKey(host, uuid string) string { return membersRoot(host) + uuid }
func groupRoot(group string) string      { return reservationsRoot + url.PathEscape(group) + "/" }

// A domain that moves may be stopped on two hosts at once. Each host removes its own reservation.
func reservedKey(group, uuid, host string) string {
	return groupRoot(group) + uuid + "/" + url.PathEscape(host)
}

// A self is the value of the key self.
type self struct {
	Machine string          `json:"machine"`
	Groups  []GroupSettings `json:"groups"` // those with members on the host, sorted by name
}

// A Member is a running member of groups of the fleet. Its host and UUID are those of its key.
type Member struct {
	Name   string   `json:"name"`
	Groups []string `json:"groups"`
	Since  string   `json:"since"` // RFC 3339, by the clock of its host; for operators only
	PID    int      `json:"pid"`
	Start  uint64   `json:"start"`

	Host     string `json:"-"`
	UUID     string `json:"-"`
	revision int64
}

// A reservation is the value of a reservation's key. Its group, UUID and host are those of the key.
type reservation struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	PID       int    `json:"pid"`
	Start     uint64 `json:"start"`
	Operation string `json:"operation"`
	Requester string `json:"requester,omitempty"`
	Ticket    string `json:"ticket,omitempty"`
	Since     string `json:"since"` // RFC 3339, by the clock of its host; for operators only

	group, uuid, host string
	revision          int64
}

// An entry is the meaning of a key. At most one of its fields is set, and host with self. No field
// is set for an unknown key.
type entry struct {
	known  string // the host
	self   *self
	host   string // of self
	member *Member
	held   *reservation
}

// parse parses a key and its value. A member whose value cannot be read does not count.
func parse(key string, value []byte, revision int64) entry {
	if rest, ok := strings.CutPrefix(key, hostsRoot); ok {
		host, rest, ok := cutName(rest)
		switch {
		case !ok:
		case rest == "known":
			return entry{known: host}
		case rest == "self":
			if s := new(self); json.Unmarshal(value, s) == nil {
				return entry{self: s, host: host}
			}
		case strings.HasPrefix(rest, "members/"):
			m := &Member{}
			if json.Unmarshal(value, m) == nil {
				m.Host, m.UUID, m.revision = host, strings.TrimPrefix(rest, "members/"), revision
				return entry{member: m}
			}
		}
	}
	if rest, ok := strings.CutPrefix(key, reservationsRoot); ok {
		if group, rest, ok := cutName(rest); ok {
			// A reservation whose value cannot be read still counts.
			r := &reservation{group: group, revision: revision}
			_ = json.Unmarshal(value, r)
			uuid, host, _ := strings.Cut(rest, "/")
			r.uuid = uuid
			r.host, _ = url.PathUnescape(host)
			return entry{held: r}
		}
	}
	return entry{}
}

func cutName(path string) (name, rest string, ok bool) {
	escaped, rest, ok := strings.Cut(path, "/")
	if !ok {
		return "", "", false
	}
	name, err := url.PathUnescape(escaped)
	return name, rest, err == nil
}

// encode returns a value as JSON. It cannot fail, because the values are texts and numbers.
func encode(value any) string {
	content, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return string(content)
}
