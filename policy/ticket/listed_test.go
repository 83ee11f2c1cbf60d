package ticket

import (
	"testing"
	"time"

	"github.com/stopguard/stopguard/policy"
)

// A ticket is listed as one that permits an operation if, and only if, Take returns it.
func TestServingAgreesWithTake(t *testing.T) {
	run := policy.Incarnation{UUID: uuidA, PID: 7, Start: 70}
	next := policy.Incarnation{UUID: uuidA, PID: 8, Start: 80}
	for _, tt := range []struct {
		why     string
		ticket  Ticket
		taken   *policy.Incarnation // takes the ticket before
		used    bool                // and ends
		asks    policy.Incarnation
		name    string
		permits bool
	}{
		{"nobody has taken it", single(uuidA), nil, false, run, "pg", true},
		{"it is another domain's", single(uuidB), nil, false, run, "pg", false},
		{"this run holds it", single(uuidA), &run, false, run, "pg", true},
		{"a former run holds it", single(uuidA), &run, false, next, "pg", false},
		{"it was used", single(uuidA), &run, true, run, "pg", false},
		{"each run takes one for the host", hostWide("pg*"), &run, false, next, "pg", true},
		{"this run has used one for the host", hostWide("pg*"), &run, true, run, "pg", false},
		{"the pattern is for others", hostWide("web*"), nil, false, run, "pg", false},
	} {
		t.Run(tt.why, func(t *testing.T) {
			s := empty(t)
			_, err := s.Grant(tt.ticket, noon)
			must(t, err)
			if tt.taken != nil {
				if _, ok, reports := s.Take(*tt.taken, tt.name, policy.OperationStop, noon); !ok {
					t.Fatal("it is not taken", reports)
				}
			}
			if tt.used {
				none(t, s.MarkUsed(*tt.taken, noon))
			}
			list, reports := s.List(noon)
			none(t, reports)
			if _, got := s.Serving(list, tt.asks, tt.name, policy.OperationStop); got != tt.permits {
				t.Errorf("it is %v", got)
			}
			if _, got := s.Serving(list, tt.asks, tt.name, policy.OperationReset); got {
				t.Error("it permits another operation")
			}
			if _, ok, _ := s.Take(tt.asks, tt.name, policy.OperationStop, noon); ok != tt.permits {
				t.Errorf("Take says %v", ok)
			}
		})
	}
}

// If several tickets serve, Serving returns the one that Take takes.
func TestServingPrefersWhatTakePrefers(t *testing.T) {
	run := policy.Incarnation{UUID: uuidA, PID: 7, Start: 70}
	s := empty(t)
	grant := func(x Ticket, hold time.Duration) Ticket {
		x.NotAfter = noon.Add(hold)
		granted, err := s.Grant(x, noon)
		must(t, err)
		return granted
	}
	takes := func(why string, want Ticket) {
		t.Helper()
		list, reports := s.List(noon)
		none(t, reports)
		shown, _ := s.Serving(list, run, "pg", policy.OperationStop)
		taken, _, _ := s.Take(run, "pg", policy.OperationStop, noon)
		if shown.ID != want.ID || taken.ID != want.ID {
			t.Errorf("%s: %s is shown and %s taken, want %s", why, shown.ID, taken.ID, want.ID)
		}
	}
	grant(hostWide("pg*"), time.Minute)
	late := grant(single(uuidA), time.Hour)
	takes("one for the domain comes before one for the host, which ends sooner", late)
	grant(single(uuidA), time.Minute)
	takes("the run holds it", late)
	must(t, s.Revoke(late.ID))
	soon := grant(single(uuidA), time.Second)
	takes("the first to end", soon)
}
