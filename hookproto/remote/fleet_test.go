package remote_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stopguard/stopguard/hookproto/remote"
)

func TestAnAnswerAboutAFleetIsAcceptedWholeOrNotAtAll(t *testing.T) {
	ask := func(text string) (remote.FleetAnswer, error) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		return fakeAgent(t, text).Fleet(ctx, remote.FleetRequest{Groups: []string{"pg"}})
	}
	answer, err := ask(body(`{"groups":[{"name":"pg","revision":7,"members":[{"name":"pg-1","uuid":"u","host":"kvm-1","since":"","revision":3,"reserved":true}]}],"reserved":false}`))
	if err != nil || fmt.Sprint(answer.Groups) != "[{pg 7 [{pg-1 u kvm-1  3 true}]}]" {
		t.Fatalf("%v %v", answer, err)
	}
	if answer, err = ask(body(`{"groups":null,"reserved":true}`)); err != nil || !answer.Reserved {
		t.Fatalf("%v %v", answer, err)
	}
	for _, tt := range []struct{ why, says string }{
		{"an agent that does not know the request", "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}"},
		{"it hangs up", ""},
		{"no JSON", body("allow")},
		{"a field of a later version", body(`{"groups":[],"reserved":true,"unless":"x"}`)},
		{"reserved with an error", body(`{"groups":null,"reserved":true,"error":"x"}`)},
		{"reserved with groups", body(`{"groups":[],"reserved":true}`)},
		{"two answers", body(`{"groups":null,"reserved":true}{}`)},
	} {
		if answer, err := ask(tt.says); !errors.As(err, new(remote.NoAnswer)) || answer.Reserved {
			t.Errorf("%s: %v %v", tt.why, answer, err)
		}
	}
}
