package relay

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/stopguard/stopguard"
	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/gate/call"
	"github.com/stopguard/stopguard/internal/gate/wire"
)

const (
	destroyOnly        = 12
	domainIsPersistent = 151
	volumeDelete       = 94
	volumeGetPath      = 100
	blockResize        = 251
	blockInfo          = 194
)

// operations returns what the guard was asked about.
func (s *stage) operations() []string {
	s.asking.Lock()
	defer s.asking.Unlock()
	var asked []string
	for _, r := range s.asked {
		asked = append(asked, r.Operation)
	}
	return asked
}

func TestTheDestroyOfATransientDomainIsADelete(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		why         string
		isTransient bool
		want        []string
	}{
		{"it is defined", false, []string{"stop"}},
		{"it is gone then", true, []string{"stop", "delete"}},
	} {
		t.Run(tt.why, func(t *testing.T) {
			s := newStage(t, nil)
			client, daemon := s.connect()
			daemon.isTransient.Store(tt.isTransient)
			client.say(t, about(destroyOnly, ordinary))
			daemon.answerXML(t)
			if got := daemon.next(t); got.Procedure != destroyOnly {
				t.Errorf("%+v comes", got.Header)
			}
			if got := s.operations(); !slices.Equal(got, tt.want) {
				t.Errorf("the guard was asked about %q", got)
			}
			if last := s.asked[len(s.asked)-1]; last.EndsRun != tt.isTransient {
				t.Errorf("%+v", last)
			}
		})
	}
}

// deletion is a call that deletes a volume.
func deletion() message {
	payload := wire.AppendString(wire.AppendString(wire.AppendString(nil, "images"), "web.img"), "")
	return message{Header: wire.Header{Procedure: volumeDelete, Serial: 11}, payload: wire.AppendUint32(payload, 0)}
}

func TestTheDeleteOfAVolumeIsOneOfTheDomainThatUsesIt(t *testing.T) {
	t.Parallel()
	disk := func(uuid, file string) string {
		return strings.Replace(xmlOf(uuid), "</uuid>", "</uuid><devices><disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='"+file+"'/><target dev='vda'/></disk></devices>", 1)
	}
	for _, tt := range []struct {
		why, xml string
		isVetoed bool
		asked    int
	}{
		{"a protected domain uses it", disk(protected, "/images/web.img"), true, 1},
		{"a domain that is not protected does", disk(ordinary, "/images/web.img"), false, 1},
		{"a protected domain uses another", disk(protected, "/images/web.img.old"), false, 0},
	} {
		t.Run(tt.why, func(t *testing.T) {
			s := newStage(t, nil)
			client, daemon := s.connect()
			client.say(t, deletion())
			id := ordinary
			if strings.Contains(tt.xml, protected) {
				id = protected
			}
			for {
				m := daemon.next(t)
				switch m.Procedure {
				case volumeGetPath:
					m.payload = wire.AppendString(nil, "/images/web.img")
				case listDomains:
					list, err := wire.AppendDomain(wire.AppendUint32(nil, 1), "x", id)
					must(t, err)
					m.payload = wire.AppendUint32(list, 1)
				case domainXML:
					m.payload = wire.AppendString(nil, tt.xml)
				case volumeDelete:
					if tt.isVetoed {
						t.Fatal("it is deleted")
					}
				default:
					t.Fatalf("%+v comes", m.Header)
				}
				if m.Procedure == volumeDelete {
					break
				}
				m.Kind = wire.Reply
				must(t, daemon.Send(m.frame(), nil))
				if m.Procedure == domainXML && tt.isVetoed {
					client.vetoed(t, deletion())
					break
				}
			}
			if got := s.operations(); len(got) != tt.asked || tt.asked > 0 && got[0] != "delete" {
				t.Errorf("the guard was asked about %q", got)
			}
		})
	}
}

// A client with slow calls on its connection must not have a protected domain's disk deleted.
func TestALibvirtdThatDoesNotTellWhoUsesAVolumeKeepsIt(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	client, daemon := s.connect()
	client.say(t, deletion())
	if got := daemon.next(t); got.Procedure != volumeGetPath {
		t.Fatalf("%+v comes", got.Header)
	}
	if err := client.refused(t, deletion()); !strings.Contains(err.Message, "stopguard: fault: ") || !strings.Contains(err.Message, "did not say within 3s which domains use the volume") {
		t.Error(err.Message)
	}
	untouched(t, client, daemon)
}

func TestADiskThatGrowsIsNoDelete(t *testing.T) {
	t.Parallel()
	resize := func(size uint64) message {
		m := about(blockResize, protected)
		m.payload = wire.AppendString(m.payload, "vda")
		m.payload = wire.AppendUint32(wire.AppendUint32(m.payload, uint32(size>>32)), uint32(size))
		m.payload = wire.AppendUint32(m.payload, 1) // in bytes
		return m
	}
	size := func(capacity uint32) message {
		return message{payload: wire.AppendUint32(wire.AppendUint32(wire.AppendUint32(make([]byte, 8), 0), capacity), 0)}
	}
	failed := func(code int32) message {
		return message{Header: wire.Header{Status: wire.Failed}, payload: (&wire.Error{Code: code, Domain: wire.FromQEMU, Message: "x"}).AppendPayload(nil)}
	}
	const silence = 1 << 20
	for _, tt := range []struct {
		why      string
		size     uint64
		answer   message
		isVetoed bool
	}{
		{"it grows", 4 << 30, size(1 << 30), false},
		{"it stays as it is", 1 << 30, size(1 << 30), false},
		{"it gets smaller", 1<<30 - 1, size(1 << 30), true},
		{"libvirtd does not know the disk, and shall say so", 1, failed(wire.CodeInvalid), false},
		{"the client may not read it, and may resize it", 1, failed(wire.CodeAccessDenied), true},
		{"the answer cannot be read", 1, message{}, true},
		{"libvirtd waits for the guest's monitor, and would make the call when that is free", 1, message{Header: wire.Header{Serial: silence}}, true},
	} {
		t.Run(tt.why, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, nil)
			client, daemon := s.connect()
			client.say(t, resize(tt.size))
			info := daemon.next(t)
			if info.Procedure != blockInfo {
				t.Fatalf("%+v comes", info.Header)
			}
			if tt.answer.Serial != silence {
				info.Kind, info.Status, info.payload = wire.Reply, tt.answer.Status, tt.answer.payload
				must(t, daemon.Send(info.frame(), nil))
			}
			if tt.isVetoed {
				daemon.answerXML(t)
				client.vetoed(t, resize(tt.size))
			} else if got := daemon.next(t); got.Procedure != blockResize {
				t.Errorf("%+v comes", got.Header)
			}
		})
	}
}

// A libvirtd without a free worker must let go a guest that hangs.
func TestALibvirtdThatDoesNotTellWhetherADomainIsTransientHoldsNothingUp(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(g *Gate) {
		g.Decide = func(_ context.Context, r stopguard.Request) error {
			if r.Operation == string(call.Delete) {
				return &hookproto.Veto{Reason: "it is transient", Rule: "test"}
			}
			return nil
		}
	})
	client, daemon := s.connect()
	daemon.isBusy.Store(true)
	client.say(t, about(destroyOnly, ordinary))
	daemon.answerXML(t)
	if got := daemon.next(t); got.Procedure != domainIsPersistent {
		t.Fatalf("%+v comes", got.Header)
	}
	if got := daemon.next(t); got.Procedure != destroyOnly {
		t.Errorf("%+v comes", got.Header)
	}
}
