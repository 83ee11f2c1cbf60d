package ticket

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stopguard/stopguard/policy"
)

func TestGrant(t *testing.T) {
	change := func(f func(*Ticket)) Ticket {
		t := single(uuidA)
		f(&t)
		return t
	}
	tests := []struct {
		name   string
		ticket Ticket
		want   string // of the error; "" if it is granted
		why    string
	}{
		{"for_a_domain", single(uuidA), "", "the common case"},
		{"for_the_host", hostWide("*"), "", "--all"},
		{"for_a_pattern", hostWide("pg-[a-z]*-0?"), "", "draining one kind"},
		{"for_an_upper_case_UUID_without_hyphens", single("0F3C8A526D0E4C1B9A773B2F4DE81C05"), "", "libvirt takes it as well"},
		{"for_nothing", single(""), "ticket: it names neither a domain nor a pattern; give one of them", "a forgotten argument must not mean everything"},
		{"for_both", change(func(t *Ticket) { t.Name = "*" }), "ticket: it names both a domain and a pattern; give one of them", "which one was meant?"},
		{"for_a_name_as_UUID", single("pg-primary-01"), `ticket: "pg-primary-01" is not a UUID; give the domain's UUID, as of virsh domuuid`, "a name can be given to another domain"},
		{"for_a_long_UUID", single(uuidA + "0"), `ticket: "` + uuidA + `0" is not a UUID; give the domain's UUID, as of virsh domuuid`, "33 digits"},
		{"for_hyphens", single("-"), `ticket: "-" is not a UUID; give the domain's UUID, as of virsh domuuid`, "nothing is left without them"},
		{"with_an_open_bracket", hostWide("pg-["), `ticket: the pattern "pg-[" is not well-formed; close its brackets, and write a backslash twice`, "it would never fit"},
		{"with_a_slash", hostWide("pg/*"), `ticket: the pattern "pg/*" fits no name, for none has a slash; leave the slash out`, "nor would this"},
		{"with_a_blank_pattern", hostWide(" "), "ticket: the pattern is empty; give a pattern", "nor would this"},
		{"for_no_operation", change(func(t *Ticket) { t.Operation = "" }), `ticket: it is for the operation ""; give one of stop, delete, pause, reset, move, modify`, "explicit"},
		{"for_a_reset", change(func(t *Ticket) { t.Operation = policy.OperationReset }), "", "rules may refuse it"},
		{"for_another_operation", change(func(t *Ticket) { t.Operation = "start" }), `ticket: it is for the operation "start"; give one of stop, delete, pause, reset, move, modify`, "a start is never vetoed"},
		{"without_a_reason", change(func(t *Ticket) { t.Reason = "" }), "ticket: the reason is empty; say why it is granted", "explicit"},
		{"with_a_blank_reason", change(func(t *Ticket) { t.Reason = " \u00a0" }), "ticket: the reason is empty; say why it is granted", "the same"},
		{"without_a_requester", change(func(t *Ticket) { t.Requester = "" }), "ticket: the requester is empty; say who wants it", "attributed"},
		{"with_a_long_reason", change(func(t *Ticket) { t.Reason = strings.Repeat("x", 1025) }), "ticket: the reason is longer than 1024 bytes; make it shorter", "bounded"},
		{"with_the_longest_reason", change(func(t *Ticket) { t.Reason = strings.Repeat("<", 1024); t.Requester = strings.Repeat("&", 1024) }), "", "also when JSON takes six bytes for each"},
		{"with_two_lines", change(func(t *Ticket) { t.Reason = "a\nb" }), "ticket: the reason is not one line of printable text; leave out line breaks, control characters and invalid UTF-8", "a list shows it on a line"},
		{"with_an_escape_sequence", change(func(t *Ticket) { t.Requester = "\x1b[2J" }), "ticket: the requester is not one line of printable text; leave out line breaks, control characters and invalid UTF-8", "and on a terminal"},
		{"with_text_written_backwards", change(func(t *Ticket) { t.Reason = "a\u202eb" }), "ticket: the reason is not one line of printable text; leave out line breaks, control characters and invalid UTF-8", "bidi characters are not printable"},
		{"with_invalid_UTF-8", change(func(t *Ticket) { t.Reason = "\xff" }), "ticket: the reason is not one line of printable text; leave out line breaks, control characters and invalid UTF-8", "JSON cannot hold it"},
		{"for_a_moment", change(func(t *Ticket) { t.NotAfter = noon.Add(1) }), "", "it is in the future"},
		{"until_now", change(func(t *Ticket) { t.NotAfter = noon }), "ticket: it would be expired from the beginning; give a time in the future", "it is not"},
		{"without_an_end", change(func(t *Ticket) { t.NotAfter = time.Time{} }), "ticket: it would be expired from the beginning; give a time in the future", "expires: the zero value must not mean never"},
		{"for_30_days", change(func(t *Ticket) { t.NotAfter = noon.Add(maxLife) }), "", "the most"},
		{"for_longer", change(func(t *Ticket) { t.NotAfter = noon.Add(maxLife + 1) }), "ticket: it would hold for more than 30 days; give an earlier time, and grant another one then", "more than that"},
		{"until_another_time_zone", change(func(t *Ticket) { t.NotAfter = t.NotAfter.In(time.FixedZone("", 7200)) }), "", "stored in UTC"},
		{"with_what_Grant_sets", change(func(t *Ticket) { t.ID, t.Boot, t.Deadline, t.Granted = "../x", "b", 7, noon.Add(9) }), "", "granting a copy of a ticket makes a new one"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := empty(t)
			got, err := s.Grant(tt.ticket, noon)
			if tt.want != "" {
				if err == nil || err.Error() != tt.want {
					t.Errorf("got %v\nwant %s (%s)", err, tt.want, tt.why)
				}
				if list, _ := s.List(noon); len(list) > 0 {
					t.Errorf("stored: %+v", list)
				}
				return
			}
			if err != nil {
				t.Fatalf("%v (%s)", err, tt.why)
			}
			want := tt.ticket
			want.ID, want.Granted, want.Boot, want.NotAfter = got.ID, noon, bootA, want.NotAfter.UTC()
			want.Deadline = 1000*int64(time.Second) + int64(want.NotAfter.Sub(noon))
			if want.Domain != "" {
				want.Domain = uuidA
			}
			if !isID(got.ID) || got != want {
				t.Errorf("granted %s (%s)", cmp.Diff(want, got), tt.why)
			}
			list, reports := s.List(noon)
			none(t, reports)
			if diff := cmp.Diff([]Listed{{Ticket: want, State: Open}}, list); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestGrant_writes_what_only_its_owner_may_read(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	for _, umask := range []int{0, 0o777} {
		s := empty(t)
		must(t, os.MkdirAll(s.Root+home, 0o755))
		if umask == 0 {
			must(t, os.RemoveAll(s.Root+"/var"))
		}
		syscall.Umask(umask)
		want := s.mustGrant(t, single(uuidA))
		s.take(run(uuidA, 1))
		none(t, s.MarkUsed(run(uuidA, 1), noon))
		syscall.Umask(0)
		modes := map[string]fs.FileMode{}
		must(t, filepath.WalkDir(s.Root+"/var", func(p string, d fs.DirEntry, err error) error {
			must(t, err)
			info, err := d.Info()
			must(t, err)
			modes[strings.TrimPrefix(p, s.Root)] = info.Mode()
			return nil
		}))
		wantModes := map[string]fs.FileMode{"/var": 0o755 | fs.ModeDir, "/var/lib": 0o755 | fs.ModeDir, "/var/lib/stopguard": 0o755 | fs.ModeDir,
			home: 0o700 | fs.ModeDir, home + "/" + want.ID + ".json": 0o600, home + "/" + want.ID + ".taken": 0o600}
		if umask != 0 {
			wantModes[home] = 0o755 | fs.ModeDir // as it was found
		}
		if diff := cmp.Diff(wantModes, modes); diff != "" {
			t.Errorf("umask %o: %s", umask, diff)
		}
	}
}

func TestTake(t *testing.T) {
	a, b := run(uuidA, 1), run(uuidB, 2)
	tests := []struct {
		name      string
		tickets   []Ticket
		in        policy.Incarnation
		domain    string
		operation string
		want      int // index of the ticket; -1 for none
		why       string
	}{
		{"none", nil, a, "pg", "stop", -1, "there is not even a folder"},
		{"of_the_domain", []Ticket{single(uuidB), single(uuidA)}, a, "pg", "stop", 1, ""},
		{"of_another_domain", []Ticket{single(uuidB)}, a, "pg", "stop", -1, ""},
		{"by_a_UUID_in_capitals", []Ticket{single(uuidA)}, policy.Incarnation{UUID: strings.ToUpper(uuidA), PID: 1, Start: 1}, "pg", "stop", 0, "the same UUID"},
		{"by_a_UUID_without_hyphens", []Ticket{single(uuidA)}, policy.Incarnation{UUID: strings.ReplaceAll(uuidA, "-", ""), PID: 1, Start: 1}, "pg", "stop", 0, "the same UUID"},
		{"for_another_operation", []Ticket{single(uuidA)}, a, "pg", "move", -1, "permits what it names"},
		{"for_no_operation", []Ticket{single(uuidA)}, a, "pg", "", -1, ""},
		{"by_pattern", []Ticket{hostWide("pg*")}, b, "pg-01", "stop", 0, ""},
		{"by_a_pattern_that_does_not_fit", []Ticket{hostWide("pg*")}, b, "web-01", "stop", -1, ""},
		{"for_all", []Ticket{hostWide("*")}, b, "web-01", "stop", 0, ""},
		{"for_all,_by_a_name_that_is_not_known", []Ticket{hostWide("*")}, b, "", "stop", -1, "nothing is no name"},
		{"a_single_one_before_one_for_the_host", []Ticket{hostWide("*"), single(uuidA)}, a, "pg", "stop", 1, "the narrower one is the one that was meant"},
		{"a_single_one_before_one_for_the_host_that_expires_first", []Ticket{func() Ticket { t := hostWide("*"); t.NotAfter = noon.Add(time.Minute); return t }(), single(uuidA)}, a, "pg", "stop", 1, "the same"},
		{"the_first_to_expire", []Ticket{single(uuidA), func() Ticket { t := single(uuidA); t.NotAfter = noon.Add(time.Minute); return t }()}, a, "pg", "stop", 1, "the other is still good for a later one"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := empty(t)
			var granted []Ticket
			for _, want := range tt.tickets {
				granted = append(granted, s.mustGrant(t, want))
			}
			for attempt := range 3 {
				got, ok, reports := s.Take(tt.in, tt.domain, tt.operation, noon)
				none(t, reports)
				want := Ticket{}
				if tt.want >= 0 {
					want = granted[tt.want]
				}
				if ok != (tt.want >= 0) || got != want {
					t.Errorf("attempt %d: %v %+v\nwant %+v (%s)", attempt, ok, got, want, tt.why)
				}
			}
		})
	}

	t.Run("of_two_alike_the_one_with_the_lower_ID", func(t *testing.T) {
		s := empty(t)
		first, second := s.mustGrant(t, single(uuidA)), s.mustGrant(t, single(uuidA))
		if first.ID > second.ID {
			first, second = second, first
		}
		for i, want := range []Ticket{first, second} {
			if got, _, _ := s.take(run(uuidA, i)); got != want {
				t.Errorf("incarnation %d got %s, want %s", i, got.ID, want.ID)
			}
		}
		if _, ok, _ := s.take(run(uuidA, 9)); ok {
			t.Error("a third one passes by two tickets")
		}
	})
	t.Run("what_it_holds_before_what_fits_better", func(t *testing.T) {
		s := empty(t)
		held := s.mustGrant(t, hostWide("*"))
		s.take(a)
		s.mustGrant(t, single(uuidA))
		if got, _, _ := s.take(a); got != held {
			t.Errorf("got %+v, want the one for the host, which it holds", got)
		}
	})
	t.Run("for_the_host,_by_each_incarnation_once", func(t *testing.T) {
		s := empty(t)
		want := s.mustGrant(t, hostWide("*"))
		for _, in := range []policy.Incarnation{a, b, run(uuidA, 7)} {
			if got, ok, _ := s.take(in); !ok || got != want {
				t.Errorf("%v does not pass", in)
			}
		}
		none(t, s.MarkUsed(a, noon.Add(time.Minute)))
		if _, ok, _ := s.take(a); ok {
			t.Error("passes when it has ended")
		}
		list, reports := s.List(noon)
		none(t, reports)
		claims := []Claim{
			{Incarnation: a, Name: "pg-primary-01", Taken: noon, Used: noon.Add(time.Minute)},
			{Incarnation: run(uuidA, 7), Name: "pg-primary-01", Taken: noon},
			{Incarnation: b, Name: "pg-primary-01", Taken: noon},
		}
		if diff := cmp.Diff([]Listed{{Ticket: want, State: Open, Claims: claims}}, list); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("by_an_incarnation_that_cannot_be_told,_for_one_stop", func(t *testing.T) {
		for _, in := range []policy.Incarnation{{UUID: uuidA}, {UUID: uuidA, PID: 5}, {UUID: uuidA, Start: 5}, {UUID: uuidA, PID: -5, Start: 5}} {
			for _, granted := range []Ticket{single(uuidA), hostWide("*")} {
				s := empty(t)
				s.mustGrant(t, granted)
				_, first, _ := s.take(in)
				_, again, reports := s.take(in)
				none(t, reports)
				if !first || again {
					t.Errorf("%v: passes %v, and again %v; the second may be the next incarnation", in, first, again)
				}
			}
		}
	})
	t.Run("without_a_UUID", func(t *testing.T) {
		s := empty(t)
		s.mustGrant(t, hostWide("*"))
		_, ok, reports := s.take(policy.Incarnation{UUID: "x/../y", PID: 1, Start: 1})
		if want := "ticket: the domain to be stopped has no UUID that is one; give the UUID of its XML"; ok || join(reports) != want {
			t.Errorf("%v %v", ok, reports)
		}
	})
	t.Run("by_a_domain_with_a_name_like_no_other", func(t *testing.T) {
		s := empty(t)
		s.mustGrant(t, single(uuidA))
		for range 2 {
			if _, ok, reports := s.Take(a, "\xff\n"+strings.Repeat("<", 5000), "stop", noon); !ok {
				t.Error(reports)
			}
		}
	})
	t.Run("revoked_after_its_claim_was_seen", func(t *testing.T) {
		s := empty(t)
		held := s.mustGrant(t, single(uuidA))
		s.take(a)
		defer func() { step = func(string) {} }()
		step = func(point string) {
			if point == "claim seen" {
				must(t, s.Revoke(held.ID))
			}
		}
		if _, ok, reports := s.take(a); ok || len(reports) > 0 {
			t.Errorf("passes: %v %v", ok, reports)
		}
	})
	t.Run("gone_while_another_claim_of_the_same_incarnation_is_left", func(t *testing.T) {
		s := empty(t)
		stale := s.mustGrant(t, single(uuidA))
		f, err := s.open()
		must(t, err)
		defer f.Close()
		s.take(a)
		must(t, f.Root.Remove(stale.ID+".json"))
		if ok, err := f.take(stale, a, "pg", noon); ok || err != nil {
			t.Errorf("passes: %v %v", ok, err)
		}
	})
}

func TestATicketPermitsItsOwnOperationOnly(t *testing.T) {
	for _, granted := range policy.Operations() {
		s := empty(t)
		want := single(uuidA)
		want.Operation = granted
		s.mustGrant(t, want)
		for _, asked := range policy.Operations() {
			if asked == granted {
				continue
			}
			if _, ok, reports := s.Take(run(uuidA, 1), "pg", asked, noon); ok || len(reports) != 0 {
				t.Errorf("a ticket to %s permits to %s: %v", granted, asked, reports)
			}
		}
		for range 2 { // the gate's question, and then the hook's
			if _, ok, reports := s.Take(run(uuidA, 1), "pg", granted, noon); !ok || len(reports) != 0 {
				t.Errorf("a ticket to %s does not permit it: %v", granted, reports)
			}
		}
	}
}

func TestExpired(t *testing.T) {
	const hour = 3600
	tests := []struct {
		name    string
		boot    string
		seconds int64 // since the boot; it was granted at 1000, for an hour
		now     time.Time
		want    bool
		why     string
	}{
		{"at_once", bootA, 1000, noon, false, ""},
		{"at_its_last_moment", bootA, 1000 + hour, noon.Add(time.Hour), false, "not after, not before"},
		{"by_the_wall_clock", bootA, 1000, noon.Add(time.Hour + 1), true, "also if that was set forward"},
		{"by_boot_time", bootA, 1001 + hour, noon, true, "setting the wall clock back revives nothing"},
		{"by_boot_time,_with_the_wall_clock_before_it_was_granted", bootA, 1001 + hour, noon.Add(-100 * time.Hour), true, "however far"},
		{"by_a_reboot", bootB, 10, noon, true, "every incarnation that it was meant for has ended"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, taken := range []bool{false, true} {
				s := empty(t)
				s.mustGrant(t, single(uuidA))
				state := Open
				if taken {
					s.take(run(uuidA, 1))
					state = Taken
				}
				if tt.want {
					state = Expired
				}
				s = at(s.Root, tt.boot, tt.seconds)
				list, reports := s.List(tt.now)
				none(t, reports)
				if len(list) != 1 || list[0].State != state {
					t.Errorf("want it %s: %+v", state, list)
				}
				_, ok, reports := s.Take(run(uuidA, 1), "pg", policy.OperationStop, tt.now)
				none(t, reports)
				if ok == tt.want {
					t.Errorf("taken before: %v: passes %v (%s)", taken, ok, tt.why)
				}
			}
		})
	}
	t.Run("long_ago,_it_is_swept_by_the_next_Grant", func(t *testing.T) {
		s := empty(t)
		s.mustGrant(t, single(uuidA))
		s.take(run(uuidA, 1))
		for _, tt := range []struct {
			now  time.Time
			left int
		}{{noon.Add(time.Hour + retention), 3}, {noon.Add(time.Hour + retention + 1), 1}} {
			next := single(uuidB)
			next.NotAfter = tt.now.Add(time.Hour)
			granted, err := s.Grant(next, tt.now)
			must(t, err)
			if left := files(t, s); len(left) != tt.left {
				t.Errorf("%v: %v", tt.now, left)
			}
			if tt.left == 3 {
				must(t, s.Revoke(granted.ID))
			}
		}
	})
	t.Run("without_a_clock_nothing_passes_and_nothing_is_granted", func(t *testing.T) {
		s := empty(t)
		s.mustGrant(t, single(uuidA))
		s.boot = func() (boot, error) { return boot{}, failure("no clock", "mount /proc") }
		if _, ok, reports := s.take(run(uuidA, 1)); ok || join(reports) != "ticket: no clock; mount /proc" {
			t.Errorf("%v %v", ok, reports)
		}
		if _, err := s.Grant(single(uuidA), noon); err == nil {
			t.Error("granted")
		}
	})
}

func TestHost_clock(t *testing.T) {
	first, err := hostBoot()
	must(t, err)
	time.Sleep(time.Millisecond)
	second, err := hostBoot()
	must(t, err)
	if first.id != second.id || second.nanos <= first.nanos || first.nanos <= 0 {
		t.Errorf("%+v, then %+v", first, second)
	}
	// The zero value but for its root is the host's own.
	s := Store{Root: empty(t).Root}
	now := time.Now()
	want := single(uuidA)
	want.NotAfter = now.Add(time.Minute)
	granted, err := s.Grant(want, now)
	must(t, err)
	got, ok, reports := s.Take(run(uuidA, 1), "pg", policy.OperationStop, time.Now())
	none(t, reports)
	if !ok || got != granted {
		t.Errorf("%v %s", ok, cmp.Diff(granted, got))
	}
}

func TestMarkUsed(t *testing.T) {
	unknown := policy.Incarnation{UUID: uuidA}
	tests := []struct {
		name  string
		taker policy.Incarnation
		ended policy.Incarnation
		used  bool
		why   string
	}{
		{"by_the_same_incarnation", run(uuidA, 1), run(uuidA, 1), true, ""},
		{"by_another_spelling_of_its_UUID", run(uuidA, 1), policy.Incarnation{UUID: strings.ToUpper(uuidA), PID: 1001, Start: 50_001}, true, ""},
		{"by_another_incarnation", run(uuidA, 1), run(uuidA, 2), false, "a late word about an earlier one"},
		{"by_the_same_PID_of_another_time", run(uuidA, 1), policy.Incarnation{UUID: uuidA, PID: 1001, Start: 9}, false, "PIDs come again"},
		{"by_another_domain", run(uuidA, 1), policy.Incarnation{UUID: uuidB}, false, ""},
		{"by_one_that_cannot_be_told", run(uuidA, 1), unknown, true, "libvirt's release comes when the process is gone"},
		{"of_one_that_could_not_be_told", unknown, run(uuidA, 1), true, "a domain has one incarnation at a time"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, granted := range []Ticket{single(uuidA), hostWide("*")} {
				s := empty(t)
				s.mustGrant(t, granted)
				s.take(tt.taker)
				var before map[string]string
				for i := range 3 {
					none(t, s.MarkUsed(tt.ended, noon.Add(time.Duration(i)*time.Second)))
					if i > 0 {
						if diff := cmp.Diff(before, files(t, s)); diff != "" {
							t.Errorf("marking again changes %s", diff)
						}
					}
					before = files(t, s)
				}
				list, reports := s.List(noon)
				none(t, reports)
				if got := !list[0].Claims[0].Used.IsZero(); got != tt.used {
					t.Errorf("used: %v, want %v (%s)", got, tt.used, tt.why)
				}
				if !granted.HostWide() && (list[0].State == Used) != tt.used {
					t.Errorf("it is %s", list[0].State)
				}
				if tt.taker.PID == 0 {
					continue
				}
				if _, ok, _ := s.take(tt.taker); ok == tt.used {
					t.Errorf("passes %v afterwards", ok)
				}
			}
		})
	}
	t.Run("of_a_domain_without_a_ticket_does_nothing", func(t *testing.T) {
		s := empty(t)
		none(t, s.MarkUsed(run(uuidA, 1), noon))
		want := s.mustGrant(t, single(uuidA))
		none(t, s.MarkUsed(run(uuidA, 1), noon))
		if got, ok, _ := s.take(run(uuidA, 1)); !ok || got != want {
			t.Error("a ticket that nobody had taken is used")
		}
	})
}

func TestRevoke(t *testing.T) {
	s := empty(t)
	for _, id := range []string{"", "0123456789abcdef", "../../../etc/passwd", "0123456789ABCDEF"} {
		if err := s.Revoke(id); !errors.Is(err, ErrUnknown) || err.Error() != fmt.Sprintf("ticket: there is no ticket %q; list them to see those that there are", id) {
			t.Errorf("%q: %v", id, err)
		}
	}
	a, b := s.mustGrant(t, single(uuidA)), s.mustGrant(t, hostWide("web*"))
	s.take(run(uuidA, 1))
	s.Take(run(uuidB, 1), "web", "stop", noon)
	must(t, s.Revoke(a.ID))
	if err := s.Revoke(a.ID); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
	if _, ok, _ := s.take(run(uuidA, 1)); ok {
		t.Error("who held it still passes")
	}
	if _, ok, _ := s.Take(run(uuidB, 1), "web", "stop", noon); !ok {
		t.Error("another ticket is gone as well")
	}
	must(t, s.Revoke(b.ID))
	if left := files(t, s); len(left) > 0 {
		t.Error(left)
	}
}
