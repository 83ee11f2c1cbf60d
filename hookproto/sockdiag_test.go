package hookproto

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// whole reads the table again if it has changed meanwhile, as it does on a busy machine.
func whole(read func() error) (err error) {
	for range 20 {
		if err = read(); err == nil {
			return nil
		}
	}
	return err
}

func TestTheEndsOfAConnectionAreEachOthersPeers(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "sg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	client, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	var all map[uint32]UnixSocket
	err = whole(func() error {
		all = map[uint32]UnixSocket{}
		return UnixSockets(func(s UnixSocket) { all[s.Inode] = s })
	})
	if err != nil {
		t.Fatal(err)
	}
	listening, connected := 0, 0
	for _, s := range all {
		switch {
		case s.Path != path:
		case s.Listening:
			listening++
		default:
			connected++
			if other, ok := all[s.Peer]; !ok || other.Peer != s.Inode || other.Path != "" {
				t.Errorf("the other end of %+v is %+v", s, other)
			}
		}
	}
	if listening != 1 || connected != 1 {
		t.Errorf("%d sockets listen, and %d are connected", listening, connected)
	}
}

func TestABigSocketTableIsReadWhole(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "sg") // socket paths are short, and t.TempDir is not
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	want := map[string]bool{}
	// The kernel gives 32 KiB at once at most. The longest paths need the fewest sockets, each of
	// which is a file.
	for i := range 350 {
		path := fmt.Sprintf("%s/%0*d", dir, longestSocketPath-len(dir)-1, i)
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		want[path] = true
	}
	if err := whole(func() error { return namedUnixSockets(func(s UnixSocket) { delete(want, s.Path) }) }); err != nil {
		t.Fatal(err)
	}
	if len(want) > 0 {
		t.Errorf("%d sockets do not show", len(want))
	}
}

func TestABrokenSocketTableIsAnError(t *testing.T) {
	native := binary.NativeEndian
	message := func(kind, flags uint16, data ...byte) []byte {
		b := native.AppendUint32(nil, uint32(16+len(data)))
		b = native.AppendUint16(b, kind)
		b = native.AppendUint16(b, flags)
		return append(append(b, make([]byte, 8)...), data...)
	}
	attribute := func(kind uint16, value string) []byte {
		b := native.AppendUint16(nil, uint16(4+len(value)))
		b = append(native.AppendUint16(b, kind), value...)
		return append(b, make([]byte, -len(b)&3)...)
	}
	socket := func(state byte, attributes ...[]byte) []byte {
		b := append([]byte{syscall.AF_UNIX, syscall.SOCK_STREAM, state}, make([]byte, 13)...)
		for _, a := range attributes {
			b = append(b, a...)
		}
		return message(sockDiagByFamily, 0, b...)
	}
	done := message(syscall.NLMSG_DONE, 0, 0, 0, 0, 0)
	for _, tt := range []struct {
		why  string
		data []byte
		done bool
		bad  bool
		want []UnixSocket
	}{
		{"an empty table", done, true, false, nil},
		{"a part", socket(1, attribute(attributeName, "/a\x00")), false, false, []UnixSocket{{Path: "/a"}}},
		{"two in one message", append(socket(10, attribute(attributeName, "/a\x00")), append(socket(1, attribute(attributeName, "/b")), done...)...), true, false,
			[]UnixSocket{{Path: "/a", Listening: true}, {Path: "/b"}}},
		{"attributes that nobody asked for", socket(1, attribute(9, "xyz"), attribute(attributeName, "/a\x00")), false, false, []UnixSocket{{Path: "/a"}}},
		{"an abstract name", socket(1, attribute(attributeName, "\x00/a")), false, false, []UnixSocket{{}}},
		{"no name", socket(1), false, false, []UnixSocket{{}}},
		{"a peer", socket(1, attribute(attributePeer, string(native.AppendUint32(nil, 7)))), false, false, []UnixSocket{{Peer: 7}}},
		{"a name with a NUL inside", socket(1, attribute(attributeName, "/a\x00b\x00")), false, false, []UnixSocket{{}}},
		{"an attribute longer than its message", socket(1, []byte{200, 0, 0, 0, '/'}, []byte{0, 0, 0}), false, false, nil},
		{"an attribute shorter than its header", socket(1, []byte{1, 0, 0, 0}), false, false, nil},
		{"a datagram socket", message(sockDiagByFamily, 0, append([]byte{syscall.AF_UNIX, syscall.SOCK_DGRAM, 1}, append(make([]byte, 13), attribute(attributeName, "/a")...)...)...), false, false, nil},
		{"a change while it was read", message(sockDiagByFamily, dumpInterrupted), false, true, nil},
		{"a change seen at the end", message(syscall.NLMSG_DONE, dumpInterrupted, 0, 0, 0, 0), false, true, nil},
		{"an error at the end", message(syscall.NLMSG_DONE, 0, 0xff, 0xff, 0xff, 0xff), false, true, nil},
		{"an error", message(syscall.NLMSG_ERROR, 0, 0xfe, 0xff, 0xff, 0xff), false, true, nil},
		{"a message longer than the datagram", []byte{200, 0, 0, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, false, true, nil},
	} {
		t.Run(tt.why, func(t *testing.T) {
			var got []UnixSocket
			done, err := visitMessages(tt.data, func(s UnixSocket) { got = append(got, s) })
			if done != tt.done || (err != nil) != tt.bad || len(got) != len(tt.want) {
				t.Fatalf("%t, %v, %v", done, err, got)
			}
			for i := range got {
				if got[i] != tt.want[i] {
					t.Errorf("%+v, want %+v", got[i], tt.want[i])
				}
			}
		})
	}
}
