package approval

import (
	"testing"

	"github.com/stopguard/stopguard/policy/ticket"
)

func TestPerson(t *testing.T) {
	const anna, ben = 61001, 61002
	for _, tt := range []struct {
		uid, login uint32
		want       int // -1 if they do not count
		why        string
	}{
		{anna, anna, anna, "a user who logged in"},
		{anna, noLogin, anna, "a service, or a kernel without login uids"},
		{0, anna, anna, "sudo to root hides nobody"},
		{0, 0, 0, "root logged in"},
		{0, noLogin, 0, "a service of root's"},
		{ben, anna, -1, "sudo -u ben would make one person two"},
		{ben, 0, -1, "root became ben"},
	} {
		p, err := person(tt.uid, tt.login)
		if (err != nil) != (tt.want < 0) || err == nil && p.UID != tt.want {
			t.Errorf("%d, login %d: %v %v (%s)", tt.uid, tt.login, p, err, tt.why)
		}
	}
}

func TestIsAmong(t *testing.T) {
	root := ticket.Person{UID: 0, User: "root"}
	for _, tt := range []struct {
		p    ticket.Person
		who  []string
		want bool
		why  string
	}{
		{root, []string{"user:root"}, true, "by name"},
		{root, []string{"group:root"}, true, "by a group"},
		{root, []string{"group:0"}, true, "by a group's number"},
		{root, []string{"user:anna", "group:nosuch"}, false, "others"},
		{ticket.Person{UID: 61001, User: "61001"}, []string{"user:61001"}, true, "a user without a name"},
		{ticket.Person{UID: 61001, User: "61001"}, []string{"group:61001"}, false, "a user whom this host does not know has no groups"},
	} {
		if got := isAmong(tt.p, tt.who); got != tt.want {
			t.Errorf("%v in %v: %v (%s)", tt.p, tt.who, got, tt.why)
		}
	}
}
