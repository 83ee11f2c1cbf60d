package relay

import (
	"encoding/binary"
	"encoding/hex"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stopguard/stopguard/internal/gate/call"
	"github.com/stopguard/stopguard/internal/gate/wire"
)

// stopsOf reports which domains libvirtd would end on these bytes. It reads them in another way
// than the gate: as one array, by offsets, with no more than what libvirt's protocol says. Bytes
// behind a frame that stand for descriptors it takes as they are counted.
func stopsOf(data []byte) (uuids []string) {
	word := func(b []byte, at int) int {
		if at+4 > len(b) {
			return -1
		}
		return int(binary.BigEndian.Uint32(b[at:]))
	}
	for len(data) >= 28 {
		length := word(data, 0)
		if length < 28 || length > len(data) {
			return uuids
		}
		frame, kind, args := data[:length], word(data, 16), 28
		data = data[length:]
		if kind == 4 {
			n := word(frame, 28)
			if n < 0 || n > 32 || n > len(data) {
				return uuids
			}
			data, args = data[n:], 32
		}
		if kind != 0 && kind != 4 || word(frame, 4) != 0x20008086 {
			continue
		}
		switch word(frame, 12) {
		case 12, 234, 33, 258, 55, 232, 440, 182:
		default:
			continue
		}
		name := word(frame, args)
		at := args + 4 + (name+3)&^3
		if name < 0 || name > 4<<20 || at+20 > len(frame) {
			continue
		}
		h := hex.EncodeToString(frame[at : at+16])
		uuids = append(uuids, strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-"))
	}
	return uuids
}

func TestStopsAreFoundByOffsets(t *testing.T) {
	t.Parallel()
	m := about(destroy, protected)
	m.Kind, m.payload = wire.CallWithFDs, append([]byte{0, 0, 0, 1}, m.payload...)
	data := append(append(opening.frame(), m.frame()...), 0)
	if got := strings.Join(stopsOf(append(data, about(destroyFlags, ordinary, 0).frame()...)), " "); got != protected+" "+ordinary {
		t.Error(got)
	}
}

// FuzzGate: whatever a client sends, libvirtd gets no stop of the protected domain.
func FuzzGate(f *testing.F) {
	s := newStage(f, nil)
	with := func(kind wire.Kind, before string, m message) []byte {
		m.Kind, m.payload = kind, append([]byte(before), m.payload...)
		return m.frame()
	}
	f.Add(about(destroy, protected).frame())
	f.Add(with(wire.CallWithFDs, "\x00\x00\x00\x00", about(destroy, protected)))
	f.Add(append(with(wire.ReplyWithFDs, "\x00\x00\x00\x01", about(destroy, protected)), about(destroyFlags, protected, 1).frame()...))
	f.Add(append(about(destroyFlags, ordinary, 0).frame(), about(33, protected).frame()...))
	f.Add(append(with(wire.Stream, "", about(destroy, protected)), about(12, protected).frame()...))
	f.Fuzz(func(t *testing.T, data []byte) {
		client, err := net.DialUnix("unix", nil, s.address("down"))
		must(t, err)
		defer client.Close()
		_, err = client.Write(opening.frame())
		must(t, err)
		must(t, s.daemon.SetDeadline(time.Now().Add(patience)))
		daemon, err := s.daemon.AcceptUnix()
		must(t, err)
		_, _ = client.Write(data) // the gate may have ended the connection by then
		got := make(chan []byte, 1)
		go func() {
			var all []byte
			buffer := make([]byte, 1<<16)
			answered := 0
			for {
				n, err := daemon.Read(buffer)
				all = append(all, buffer[:n]...)
				if err != nil {
					got <- all
					return
				}
				answered = answerQuestions(daemon, all, answered)
			}
		}()
		// What is to come has come when nothing has for a while; a stop that came later would be
		// found by another run.
		for read := make([]byte, 1<<16); ; {
			must(t, client.SetReadDeadline(time.Now().Add(3*time.Millisecond)))
			if _, err := client.Read(read); err != nil {
				break
			}
		}
		_ = client.Close()
		for _, uuid := range stopsOf(<-got) {
			if uuid == protected {
				t.Fatalf("%q stops %s", data, uuid)
			}
		}
		_ = daemon.Close()
	})
}

// answerQuestions answers what looks like a question for XML and has not been answered, and gives
// how many bytes are done.
func answerQuestions(daemon io.Writer, all []byte, done int) int {
	for len(all)-done >= wire.HeaderSize {
		h := wire.ReadHeader(all[done:])
		if h.Length < wire.HeaderSize || int(h.Length) > len(all)-done {
			break
		}
		frame := all[done : done+int(h.Length)]
		done += len(frame)
		if h.Program == call.Remote && h.Procedure == domainXML && h.Kind == wire.Call {
			d := wire.Decode(frame[wire.HeaderSize:])
			_ = d.String()
			uuid := d.UUID()
			h.Kind = wire.Reply
			_, _ = daemon.Write(wire.Frame(h, wire.AppendString(nil, xmlOf(uuid))))
		}
	}
	return done
}
