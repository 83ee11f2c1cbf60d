package wire

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A sent is what came out of a Splitter, put together again.
type sent struct {
	Kind        Kind
	Frame       []byte
	Descriptors int
}

// split feeds data to a Splitter in parts of at most n bytes.
func split(t testing.TB, s Splitter, data []byte, n int) ([]sent, error) {
	t.Helper()
	var got []sent
	open := false
	for len(data) > 0 {
		part := bytes.Clone(data[:min(n, len(data))])
		data = data[len(part):]
		for len(part) > 0 {
			p, rest, ok, err := s.Next(part)
			if err != nil {
				return got, err
			}
			part = rest
			if !ok {
				break
			}
			if p.First == open {
				t.Fatalf("a piece with First = %v while a frame is open: %v", p.First, open)
			}
			if p.First {
				got = append(got, sent{Kind: p.Header.Kind})
			}
			last := &got[len(got)-1]
			if p.Descriptor {
				last.Descriptors++
			} else {
				last.Frame = append(last.Frame, p.Bytes...)
			}
			open = !p.Last
		}
	}
	if p := s.Position(); open != (p.Left+p.Descriptors > 0) {
		t.Fatalf("a frame is open: %t, at %+v", open, p)
	}
	return got, nil
}

func frame(kind Kind, payload string) []byte {
	return Frame(Header{Program: 1, Kind: kind}, []byte(payload))
}

func TestFramesAreCutAsLibvirtCutsThem(t *testing.T) {
	two := "\x00\x00\x00\x02"
	for _, tt := range []struct {
		why  string
		from Splitter
		data []byte
		want []sent
	}{
		{"the smallest", FromClient(), frame(Call, ""), []sent{{Call, frame(Call, ""), 0}}},
		{"two at once", FromClient(), append(frame(Call, "abcd"), frame(Stream, "x")...),
			[]sent{{Call, frame(Call, "abcd"), 0}, {Stream, frame(Stream, "x"), 0}}},
		{"descriptors come behind the frame", FromClient(), append(append(frame(CallWithFDs, two+"args"), 0, 0), frame(Call, "")...),
			[]sent{{CallWithFDs, frame(CallWithFDs, two+"args"), 2}, {Call, frame(Call, ""), 0}}},
		{"a call with descriptors may have none", FromClient(), append(frame(CallWithFDs, "\x00\x00\x00\x00args"), frame(Call, "")...),
			[]sent{{CallWithFDs, frame(CallWithFDs, "\x00\x00\x00\x00args"), 0}, {Call, frame(Call, ""), 0}}},
		{"libvirtd expects no descriptors behind a client's reply", FromClient(), append(frame(ReplyWithFDs, two), frame(Call, "")...),
			[]sent{{ReplyWithFDs, frame(ReplyWithFDs, two), 0}, {Call, frame(Call, ""), 0}}},
		{"a client expects none behind a server's call", FromServer(), append(frame(CallWithFDs, two), frame(Call, "")...),
			[]sent{{CallWithFDs, frame(CallWithFDs, two), 0}, {Call, frame(Call, ""), 0}}},
		{"a reply with descriptors", FromServer(), append(append(frame(ReplyWithFDs, two), 0, 0), frame(Reply, "")...),
			[]sent{{ReplyWithFDs, frame(ReplyWithFDs, two), 2}, {Reply, frame(Reply, ""), 0}}},
		{"the last kind", FromClient(), frame(StreamHole, "abcd"), []sent{{StreamHole, frame(StreamHole, "abcd"), 0}}},
	} {
		t.Run(tt.why, func(t *testing.T) {
			for _, n := range []int{1, 3, 4, 27, 28, 29, 31, 33, 1 << 20} {
				got, err := split(t, tt.from, tt.data, n)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("in parts of %d bytes: %s", n, diff)
				}
			}
		})
	}
}

func TestWhatIsNoFrameEndsTheConnection(t *testing.T) {
	length := func(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
	for _, tt := range []struct {
		why  string
		data []byte
		says string // "" if it is well
	}{
		{"shorter than a length word", length(3), "a frame of 3 bytes"},
		{"shorter than a header", length(27), "a frame of 27 bytes"},
		{"the shortest", length(28), ""},
		{"the largest", length(33554436), ""},
		{"one byte more", length(33554437), "a frame of 33554437 bytes"},
		{"all ones", length(0xffffffff), "a frame of 4294967295 bytes"},
		{"text", []byte("GET / HTTP/1.1"), "a frame of 1195725856 bytes"},
		{"a kind that nobody knows", frame(StreamHole+1, "")[:28], "a frame of the kind 7"},
		{"descriptors that are not counted", frame(CallWithFDs, "")[:28], "does not say how many"},
		{"as many as libvirt takes", frame(CallWithFDs, "\x00\x00\x00\x20"), ""},
		{"one more", frame(CallWithFDs, "\x00\x00\x00\x21"), "33 descriptors"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			for _, n := range []int{1, 1 << 10} {
				_, err := split(t, FromClient(), tt.data, n)
				if (err != nil) != (tt.says != "") || err != nil && !strings.Contains(err.Error(), tt.says) {
					t.Errorf("in parts of %d bytes: %v, want %q", n, err, tt.says)
				}
			}
		})
	}
}

func TestALargeFrameIsGivenAsItComes(t *testing.T) {
	s := FromClient()
	head := Header{Length: MaxFrame, Kind: Call}.Append(nil)
	if p, _, ok, err := s.Next(head); !ok || err != nil || !p.First || p.Last {
		t.Fatal(p, ok, err)
	}
	chunk := make([]byte, 1<<16)
	for left := MaxFrame - HeaderSize; left > 0; {
		p, _, ok, err := s.Next(chunk)
		if !ok || err != nil {
			t.Fatal(ok, err)
		}
		if left -= len(p.Bytes); p.Last != (left == 0) {
			t.Fatalf("Last = %v with %d bytes to come", p.Last, left)
		}
	}
}

// FuzzSplitter: however the bytes are cut on their way, the same frames come out, and they are the
// bytes that went in.
func FuzzSplitter(f *testing.F) {
	f.Add(append(frame(CallWithFDs, "\x00\x00\x00\x01args"), 0), 5)
	f.Add(append(frame(Call, "abc"), frame(Stream, strings.Repeat("x", 100))...), 31)
	f.Add([]byte("\x00\x00\x00\x1b"), 1)
	f.Fuzz(func(t *testing.T, data []byte, n int) {
		for _, from := range []Splitter{FromClient(), FromServer()} {
			whole, err := split(t, from, data, len(data)+1)
			parts, partsErr := split(t, from, data, max(n, 1))
			if diff := cmp.Diff(whole, parts); diff != "" && err == nil {
				t.Fatal(diff)
			}
			if (err != nil) != (partsErr != nil) {
				t.Fatalf("%v in one, %v in parts", err, partsErr)
			}
			var again []byte
			for _, s := range whole {
				again = append(append(again, s.Frame...), make([]byte, s.Descriptors)...)
			}
			if err != nil {
				return
			}
			// The bytes of descriptors may be any; compare lengths, and the frames.
			if len(again) > len(data) || len(data)-len(again) >= HeaderSize+4 {
				t.Fatalf("%d bytes became %d", len(data), len(again))
			}
			at := 0
			for _, s := range whole {
				if !bytes.HasPrefix(data[at:], s.Frame) {
					t.Fatal("a frame is not what came in")
				}
				at += len(s.Frame) + s.Descriptors
			}
		}
	})
}
