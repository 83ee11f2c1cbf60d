package peer

import (
	"os/user"
	"slices"
	"strconv"
)

// The packages build without cgo. So os/user reads the files of the host and does not wait for a
// directory service.

// userName returns the name of a user; "" if the host does not have the user.
func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return ""
}

// groupNames returns the names of groups. A group without a name is its number.
func groupNames(ids []int) []string {
	names := []string{}
	for _, id := range ids {
		name := strconv.Itoa(id)
		if g, err := user.LookupGroupId(name); err == nil {
			name = g.Name
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// groupsOf returns the user's own group, and then the groups that list the user, as polkit looks
// them up.
func groupsOf(name string, gid int) []int {
	ids := []int{gid}
	if name == "" {
		return ids
	}
	listed, err := (&user.User{Username: name, Gid: strconv.Itoa(gid)}).GroupIds()
	if err != nil {
		return ids
	}
	for _, text := range listed {
		if id, err := strconv.Atoi(text); err == nil {
			ids = append(ids, id)
		}
	}
	return ids
}
