package relay

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stopguard/stopguard/internal/gate/wire"
)

const saslStart = 68

// libvirtd does not negotiate encryption on a Unix socket, whatever the mechanism;
// internal/e2e/gate shows that calls can be read after a login. If a client negotiated it all the
// same, its calls could not be read.
func TestWhatCannotBeReadAfterALoginIsNeverPassedOn(t *testing.T) {
	t.Parallel()
	secret := func(n int) []byte {
		b := make([]byte, n)
		_, _ = rand.Read(b) // it never fails
		return b
	}
	for _, tt := range []struct {
		why  string
		said []byte
	}{
		// SASL's layers put the length of what they have encrypted before it, and that may be a
		// frame's.
		{"a call in a layer of SASL's", append(binary.BigEndian.AppendUint32(nil, 60), secret(60)...)},
		{"several", bytes.Repeat(append(binary.BigEndian.AppendUint32(nil, 60), secret(60)...), 20)},
		{"one that is as short as a frame can be", append(binary.BigEndian.AppendUint32(nil, wire.HeaderSize), secret(wire.HeaderSize)...)},
		{"TLS", append([]byte{22, 3, 3, 0, 200}, secret(200)...)},
		{"a kind of frame that nobody knows: it may be a call", message{Header: wire.Header{Procedure: destroy, Kind: wire.StreamHole + 1}, payload: about(destroy, protected).payload}.frame()},
	} {
		for _, from := range []string{"the client", "libvirtd"} {
			t.Run(tt.why+", from "+from, func(t *testing.T) {
				s := newStage(t, nil)
				client := s.dial()
				login := message{Header: wire.Header{Procedure: saslStart, Serial: 1}, payload: []byte("name and password")}.frame()
				say(t, client, login)
				must(t, s.daemon.SetDeadline(time.Now().Add(patience)))
				daemon, err := s.daemon.AcceptUnix()
				must(t, err)
				defer daemon.Close()
				hear(t, daemon, login)
				welcome := message{Header: wire.Header{Procedure: saslStart, Serial: 1, Kind: wire.Reply}, payload: []byte("welcome")}.frame()
				say(t, daemon, welcome)
				hear(t, client, welcome)

				speaker, listener := client, daemon
				if from == "libvirtd" {
					speaker, listener = daemon, client
				}
				say(t, speaker, tt.said)
				rest, err := io.ReadAll(listener)
				must(t, err)
				if len(rest) > 0 {
					t.Errorf("%d bytes are passed on: %x", len(rest), rest)
				}
				if _, err := io.ReadAll(speaker); err != nil && quiet(err) != nil {
					t.Error(err)
				}
			})
		}
	}
}

func say(t *testing.T, conn *net.UnixConn, b []byte) {
	t.Helper()
	must(t, conn.SetDeadline(time.Now().Add(patience)))
	_, err := conn.Write(b)
	must(t, err)
}

func hear(t *testing.T, conn *net.UnixConn, want []byte) {
	t.Helper()
	must(t, conn.SetDeadline(time.Now().Add(patience)))
	got := make([]byte, len(want))
	_, err := io.ReadFull(conn, got)
	must(t, err)
	if !bytes.Equal(got, want) {
		t.Fatalf("%x comes instead of %x", got, want)
	}
}
