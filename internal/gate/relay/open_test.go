package relay

import (
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stopguard/stopguard/internal/gate/wire"
)

const elsewhere = "qemu+unix:///system?socket=/run/stopguard-up/libvirt-sock"

func TestAnOpenThatLeadsElsewhereIsRefusedAndTheConnectionGoesOn(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	client := newEnd(t, s.dial(), wire.FromServer())
	client.say(t, openingOf(elsewhere))
	err := client.refused(t, opening)
	if want := "stopguard: veto: CONNECT_OPEN: libvirtd would open the name \"" + elsewhere + "\" by another daemon, past the gate; connect with qemu:///system"; err.Message != want || err.Code != wire.CodeAccessDenied {
		t.Errorf("%d, %q, want %q", err.Code, err.Message, want)
	}
	withFDs := openingOf(elsewhere)
	withFDs.Kind, withFDs.payload = wire.CallWithFDs, append([]byte{0, 0, 0, 0}, withFDs.payload...)
	client.say(t, withFDs)
	client.refused(t, opening)

	client.say(t, opening)
	daemon := s.accept()
	untouched(t, client, daemon)
}

func TestWhatIsSaidBehindAnOpenDoesNotOvertakeIt(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	client := newEnd(t, s.dial(), wire.FromServer())
	next := message{Header: wire.Header{Procedure: getLibVersion, Serial: 4}}
	must(t, client.Send(append(opening.frame(), next.frame()...), nil))
	daemon := s.accept()
	if m := daemon.next(t); m.Procedure != getLibVersion {
		t.Errorf("%+v", m.Header)
	}
}

func TestAGateThatIsOffOpensAnyName(t *testing.T) {
	t.Parallel()
	var off atomic.Bool
	s := newStage(t, func(g *Gate) { g.Off = off.Load })
	off.Store(true)
	client := newEnd(t, s.dial(), wire.FromServer())
	client.say(t, openingOf(elsewhere))
	untouched(t, client, s.accept())
}

func TestANameThatIsTooLongIsRefused(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	s.unauthenticated = true
	client := newEnd(t, s.dial(), wire.FromServer())
	long := openingOf("qemu:///" + strings.Repeat("x", maxHeldUnauthenticatedBytes))
	client.say(t, long)
	if err := client.refused(t, long); !strings.Contains(err.Message, "more than 4096 bytes") {
		t.Error(err.Message)
	}
}
