package ticket

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stopguard/stopguard/internal/testhost"
)

const many = 64

func TestRace(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long")
	}
	t.Run("64_processes_for_64_incarnations:_exactly_one_gets_the_ticket_and_keeps_it", func(t *testing.T) {
		s := empty(t)
		want := s.mustGrant(t, single(uuidA))
		var orders []order
		for i := range many {
			orders = append(orders, order{Do: "take", Root: s.Root, In: run(uuidA, i)})
		}
		answers := together(t, orders)
		if n := passed(answers); n != 1 {
			t.Fatalf("%d processes passed, want 1", n)
		}
		for i, a := range answers {
			if len(a.Reports) > 0 {
				t.Errorf("losing a race is nothing to report: %q", a.Reports)
			}
			_, ok, reports := s.take(run(uuidA, i))
			none(t, reports)
			if ok != a.OK {
				t.Errorf("incarnation %d: passes %v after the race, %v in it", i, ok, a.OK)
			}
			if a.OK && a.ID != want.ID {
				t.Errorf("passed by %s, want %s", a.ID, want.ID)
			}
		}
	})
	t.Run("64_processes_for_one_incarnation:_each_passes_by_the_same_ticket", func(t *testing.T) {
		s := empty(t)
		s.mustGrant(t, single(uuidA))
		s.mustGrant(t, single(uuidA))
		s.mustGrant(t, hostWide("*"))
		var orders []order
		for range many {
			orders = append(orders, order{Do: "take", Root: s.Root, In: run(uuidA, 0)})
		}
		answers := together(t, orders)
		for i, a := range answers {
			if !a.OK || a.ID != answers[0].ID || len(a.Reports) > 0 {
				t.Errorf("process %d: %+v, want %+v", i, a, answers[0])
			}
		}
		claims := 0
		for name := range files(t, s) {
			if strings.HasSuffix(name, ".taken") {
				claims++
			}
		}
		if claims != 1 {
			t.Errorf("%d tickets were taken, want 1", claims)
		}
	})
	t.Run("64_processes_for_64_domains:_each_passes_by_a_ticket_for_the_host", func(t *testing.T) {
		s := empty(t)
		s.mustGrant(t, hostWide("pg-*"))
		var orders []order
		for i := range many {
			orders = append(orders, order{Do: "take", Root: s.Root, In: run(fmt.Sprintf("%032x", i+1), i)})
		}
		if n := passed(together(t, orders)); n != many {
			t.Errorf("%d passed, want %d", n, many)
		}
		list, reports := s.List(noon)
		none(t, reports)
		if len(list) != 1 || len(list[0].Claims) != many {
			t.Errorf("each must be recorded: %+v", list)
		}
	})
	t.Run("as_many_pass_as_there_are_tickets", func(t *testing.T) {
		s := empty(t)
		for range 5 {
			s.mustGrant(t, single(uuidA))
		}
		var orders []order
		for i := range many / 4 {
			orders = append(orders, order{Do: "take", Root: s.Root, In: run(uuidA, i)})
		}
		if n := passed(together(t, orders)); n != 5 {
			t.Errorf("%d passed, want 5: who loses the race for one must try the next", n)
		}
	})
}

// Two goroutines of one process are one more way to be two at once.
func TestRevoke_racing_with_Take_leaves_at_most_one_that_passed_and_none_afterwards(t *testing.T) {
	rounds := 60
	if testing.Short() {
		rounds = 15 // each makes a host's folders and a dozen files
	}
	for range rounds {
		s := empty(t)
		want := s.mustGrant(t, single(uuidA))
		const takers = 6
		begin, done := make(chan bool), make(chan bool, takers+1)
		for i := range takers {
			go func() {
				<-begin
				time.Sleep(rand.N(2 * time.Millisecond))
				_, ok, _ := s.take(run(uuidA, i))
				done <- ok
			}()
		}
		go func() {
			<-begin
			time.Sleep(rand.N(3 * time.Millisecond))
			if err := s.Revoke(want.ID); err != nil {
				t.Error(err)
			}
			done <- false
		}()
		close(begin)
		n := 0
		for range takers + 1 {
			if <-done {
				n++
			}
		}
		if n > 1 {
			t.Errorf("%d passed by one ticket", n)
		}
		for i := range takers {
			if _, ok, _ := s.take(run(uuidA, i)); ok {
				t.Error("passes after it was revoked")
			}
		}
	}
}

// The moments that the test above seldom meets: everything else happens between two steps of a
// Take.
func TestRevoke_between_two_steps_of_a_Take_leaves_no_second_that_passes(t *testing.T) {
	for _, point := range []string{"temporary file created", "temporary file written", "file there", "temporary file removed", "folder synced"} {
		t.Run(strings.ReplaceAll(point, " ", "_"), func(t *testing.T) {
			s := empty(t)
			want := s.mustGrant(t, single(uuidA))
			var other bool
			step = func(p string) {
				if p != point {
					return
				}
				step = func(string) {}
				_, other, _ = s.take(run(uuidA, 2))
				must(t, s.Revoke(want.ID))
			}
			defer func() { step = func(string) {} }()
			_, ok, reports := s.take(run(uuidA, 1))
			none(t, reports)
			if ok {
				t.Errorf("it passed by a ticket that was gone before its claim was sure (another passed: %v)", other)
			}
			if left := files(t, s); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long")
	}
	t.Run("at_any_step_of_a_Take_the_ticket_is_not_lost_and_not_doubled", func(t *testing.T) {
		tests := []struct {
			point string
			holds bool
			why   string
		}{
			{"temporary file created", false, "nothing was taken, and nobody was told that it was"},
			{"temporary file written", false, "nor here"},
			{"file there", true, "it may go on as if it had got an answer: the claim is what counts"},
			{"temporary file removed", true, ""},
			{"folder synced", true, ""},
			{"ticket seen again", true, ""},
		}
		for _, tt := range tests {
			t.Run(strings.ReplaceAll(tt.point, " ", "_"), func(t *testing.T) {
				for _, pattern := range []bool{false, true} {
					s := empty(t)
					granted := single(uuidA)
					if pattern {
						granted = hostWide("*")
					}
					s.mustGrant(t, granted)
					if a, lived := alone(t, order{Do: "take", Root: s.Root, In: run(uuidA, 1), Crash: tt.point}); lived {
						t.Fatalf("it was not killed: %+v", a)
					}
					if !pattern {
						_, ok, reports := s.take(run(uuidA, 2))
						none(t, reports)
						if ok == tt.holds {
							t.Errorf("another incarnation passes: %v (%s)", ok, tt.why)
						}
					}
					_, ok, reports := s.take(run(uuidA, 1))
					none(t, reports)
					if want := tt.holds || pattern; ok != want {
						t.Errorf("the incarnation that it was taken for passes: %v, want %v (%s)", ok, want, tt.why)
					}
				}
			})
		}
	})
	t.Run("at_any_moment_of_a_Take_exactly_one_incarnation_holds_it", func(t *testing.T) {
		survived, held := 0, 0
		const rounds, batch = 96, 16
		for round := 0; round < rounds; round += batch {
			var children []*testhost.Child
			var stores []Store
			for range batch {
				s := empty(t)
				s.mustGrant(t, single(uuidA))
				stores = append(stores, s)
				children = append(children, testhost.Start(t, order{Do: "take", Root: s.Root, In: run(uuidA, 1)}))
			}
			for i, c := range children {
				s := stores[i]
				testhost.Release(t, c)
				time.Sleep(rand.N(8 * time.Millisecond))
				syscall.Kill(c.PID(), syscall.SIGKILL)
				a, lived := end(t, c)
				_, other, reports := s.take(run(uuidA, 2))
				none(t, reports)
				_, first, reports := s.take(run(uuidA, 1))
				none(t, reports)
				if first == other {
					t.Errorf("the first passes: %v, the second: %v", first, other)
				}
				if lived && a.OK && !first {
					t.Error("it was told that it passes, and no longer does")
				}
				if lived {
					survived++
				}
				if first {
					held++
				}
			}
		}
		t.Logf("of %d, %d had given their answer, %d had taken the ticket", rounds, survived, held)
	})
	t.Run("at_any_step_of_a_Grant_there_is_a_whole_ticket_or_none", func(t *testing.T) {
		for _, tt := range []struct {
			point string
			there int
		}{{"temporary file created", 0}, {"temporary file written", 0}, {"file there", 1}, {"temporary file removed", 1}, {"folder synced", 1}} {
			s := empty(t)
			alone(t, order{Do: "grant", Root: s.Root, Ticket: single(uuidA), Crash: tt.point})
			list, reports := s.List(noon)
			none(t, reports)
			if len(list) != tt.there {
				t.Errorf("%s: %d tickets, want %d", tt.point, len(list), tt.there)
			}
		}
	})
	t.Run("at_any_step_of_MarkUsed_the_claim_is_whole", func(t *testing.T) {
		for _, tt := range []struct {
			point string
			state State
		}{{"temporary file created", Taken}, {"temporary file written", Taken}, {"file there", Used}, {"temporary file removed", Used}, {"folder synced", Used}} {
			s := empty(t)
			s.mustGrant(t, single(uuidA))
			s.take(run(uuidA, 1))
			alone(t, order{Do: "mark", Root: s.Root, In: run(uuidA, 1), Crash: tt.point})
			list, reports := s.List(noon)
			none(t, reports)
			if len(list) != 1 || list[0].State != tt.state {
				t.Errorf("%s: %+v, want it %s", tt.point, list, tt.state)
			}
			if _, ok, _ := s.take(run(uuidA, 2)); ok {
				t.Errorf("%s: another incarnation passes", tt.point)
			}
		}
	})
	t.Run("in_a_Revoke_leaves_nothing_that_counts_and_the_next_Grant_sweeps_it", func(t *testing.T) {
		s := empty(t)
		old := s.mustGrant(t, single(uuidA))
		s.take(run(uuidA, 1))
		alone(t, order{Do: "revoke", Root: s.Root, Ticket: old, Crash: "ticket removed"})
		if left := files(t, s); len(left) != 1 || left[old.ID+".taken"] == "" {
			t.Fatalf("want a claim without its ticket: %v", left)
		}
		if _, ok, reports := s.take(run(uuidA, 1)); ok || len(reports) > 0 {
			t.Errorf("passes: %v, %v", ok, reports)
		}
		// Temporary files of killed processes are removed once they are old enough to be abandoned.
		for name, age := range map[string]time.Duration{".tmp-OLD": 2 * time.Hour, ".tmp-NEW": 0} {
			p := filepath.Join(s.Root, home, name)
			must(t, os.WriteFile(p, []byte("{"), 0o600))
			must(t, os.Chtimes(p, time.Time{}, time.Now().Add(-age)))
		}
		next := s.mustGrant(t, single(uuidA))
		left := files(t, s)
		if _, ok := left[".tmp-NEW"]; !ok || len(left) != 2 || left[next.ID+".json"] == "" {
			t.Errorf("after the sweep: %v", left)
		}
	})
}
