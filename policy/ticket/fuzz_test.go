package ticket

import (
	"bytes"
	"testing"
	"time"

	"github.com/stopguard/stopguard/internal/uuid"
)

func FuzzDecode(f *testing.F) {
	for _, t := range []Ticket{single(uuidA), hostWide("*")} {
		t.ID, t.Boot, t.Deadline, t.Granted = "0123456789abcdef", bootA, 1, noon
		data, err := t.encode()
		must(f, err)
		f.Add(data)
	}
	f.Add([]byte(`{"ticket":"0123456789abcdef","uuid":"` + uuidA + `","pid":1,"start":2,"name":"pg","taken":"2026-10-02T12:00:00Z"}` + "\n"))
	f.Add([]byte("null\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if got, err := decode(data); err == nil {
			if again, err := got.encode(); err != nil || !bytes.Equal(again, data) {
				t.Errorf("more than one file is the same ticket:\n%q\n%q", data, again)
			}
			if err := got.check(); err != nil || !isID(got.ID) || got.NotAfter.Sub(got.Granted) > maxLife {
				t.Errorf("what would not be granted is accepted: %+v %v", got, err)
			}
		} else if got != (Ticket{}) {
			t.Errorf("half a ticket beside an error: %+v", got)
		}
		if got, err := decodeClaim(data); err == nil {
			if again, err := encode(got); err != nil || !bytes.Equal(again, data) {
				t.Errorf("more than one file is the same claim:\n%q\n%q", data, again)
			}
		}
	})
}

func FuzzRoundTrip(f *testing.F) {
	f.Add(uuidA, "", "disk swap", "kim", int64(60), uint(9), byte('x'))
	f.Add("", "pg-[a-z]\\*", "<&>\u2028\ufffd", "kim <kim@example.org>", int64(1), uint(0), byte(0))
	f.Fuzz(func(t *testing.T, domain, name, reason, requester string, nanos int64, at uint, to byte) {
		want := Ticket{ID: "0123456789abcdef", Domain: uuid.Canonical(domain), Name: name, Operation: "stop", Reason: reason, Requester: requester,
			Granted: noon, NotAfter: noon.Add(time.Duration(nanos)), Boot: bootA, Deadline: 1}
		if want.check() != nil || want.checkTime() != nil {
			return
		}
		data, err := want.encode()
		if err != nil || len(data) > maxFile {
			t.Fatalf("what may be granted cannot be stored: %v, %d bytes", err, len(data))
		}
		got, err := decode(data)
		if err != nil || got != want {
			t.Fatalf("%v\ngot  %+v\nwant %+v", err, got, want)
		}
		i := at % uint(len(data))
		if data[i] == to {
			return
		}
		data[i] = to
		if got, err := decode(data); err == nil && got == want {
			t.Errorf("%q is accepted as the same", data)
		}
	})
}
