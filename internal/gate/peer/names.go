package peer

import (
	"os/user"
	"slices"
	"strconv"
)

// Built without cgo, as the packages build it, package os/user reads the files of the host, and no
// directory service is waited for.

// userName returns the name of a user; "" if there is none.
func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return ""
}

// groupNames returns the names of groups; of one without a name, its number.
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

// groupsOf returns the groups that a user is listed in, after the user's own, as polkit looks them
// up.
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
