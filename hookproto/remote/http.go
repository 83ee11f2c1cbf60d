package remote

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"

	"github.com/stopguard/stopguard/hookproto"
)

const (
	maxHeader = 4 << 10  // bytes of an answer's header
	maxBody   = 32 << 10 // bytes of an answer, four texts of 4 KiB at most in base64
)

func send(conn net.Conn, e *hookproto.Event, xml []byte) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "POST %s?", Path)
	for i, arg := range []string{e.Domain, string(e.Op), e.SubOp, e.Extra} {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString("arg=")
		escape(&b, arg)
	}
	fmt.Fprintf(&b, " HTTP/1.1\r\nHost: stopguard\r\nConnection: close\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n", len(xml))
	parts := net.Buffers{b.Bytes(), xml}
	_, err := parts.WriteTo(conn)
	return err
}

// escape writes a text as a query has it: a domain's name may hold anything but a slash.
func escape(b *bytes.Buffer, text string) {
	for i := range len(text) {
		switch c := text[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
			b.WriteByte(c)
		default:
			fmt.Fprintf(b, "%%%02X", c)
		}
	}
}

// receive reads an answer with status 200, a length, and exactly so much JSON. Everything else is an error.
func receive(conn io.Reader) (Answer, error) {
	in := bufio.NewReaderSize(io.LimitReader(conn, maxHeader+maxBody), maxHeader)
	status, err := line(in)
	if err != nil {
		return Answer{}, err
	}
	if !strings.HasPrefix(status, "HTTP/1.1 200 ") {
		return Answer{}, fmt.Errorf("it says %.60q", status)
	}
	length := -1
	for {
		field, err := line(in)
		if err != nil {
			return Answer{}, err
		}
		if field == "" {
			break
		}
		name, value, _ := strings.Cut(field, ":")
		switch strings.ToLower(name) {
		case "transfer-encoding", "content-encoding":
			return Answer{}, errors.New("it answers in an encoding")
		case "content-length":
			n, err := strconv.Atoi(strings.TrimSpace(value))
			if err != nil || n < 0 || n > maxBody || length >= 0 {
				return Answer{}, errors.New("it does not say how long its answer is")
			}
			length = n
		}
	}
	if length < 0 {
		return Answer{}, errors.New("it does not say how long its answer is")
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(in, body); err != nil {
		return Answer{}, err
	}
	return parseAnswer(body)
}

func line(in *bufio.Reader) (string, error) {
	text, err := in.ReadSlice('\n')
	if err != nil {
		return "", err
	}
	return strings.TrimRight(string(text), "\r\n"), nil
}

// parseAnswer takes nothing but what [Answer] is: an answer that this program understands in part might mean another.
func parseAnswer(body []byte) (Answer, error) {
	var a Answer
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&a); err != nil {
		return Answer{}, err
	}
	if d.More() || !a.valid() {
		return Answer{}, errors.New("its answer says nothing that is known here")
	}
	return a, nil
}
