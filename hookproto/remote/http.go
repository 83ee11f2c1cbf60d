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

// escape writes a text escaped for a query: a domain's name may contain anything but a slash.
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

// receive reads an answer about an event.
func receive(conn io.Reader) (Answer, error) {
	body, err := receiveBody(conn, maxBody)
	if err != nil {
		return Answer{}, err
	}
	return parseAnswer(body)
}

// receiveBody reads an answer with status 200, a length of at most limit, and a body of exactly
// that length. Everything else is an error.
func receiveBody(conn io.Reader, limit int) ([]byte, error) {
	in := bufio.NewReaderSize(io.LimitReader(conn, int64(maxHeader+limit)), maxHeader)
	status, err := line(in)
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(status, "HTTP/1.1 200 ") {
		return nil, fmt.Errorf("it says %.60q", status)
	}
	length := -1
	for {
		field, err := line(in)
		if err != nil {
			return nil, err
		}
		if field == "" {
			break
		}
		name, value, _ := strings.Cut(field, ":")
		switch strings.ToLower(name) {
		case "transfer-encoding", "content-encoding":
			return nil, errors.New("it answers in an encoding")
		case "content-length":
			n, err := strconv.Atoi(strings.TrimSpace(value))
			if err != nil || n < 0 || n > limit || length >= 0 {
				return nil, errors.New("it does not say how long its answer is")
			}
			length = n
		}
	}
	if length < 0 {
		return nil, errors.New("it does not say how long its answer is")
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(in, body); err != nil {
		return nil, err
	}
	return body, nil
}

func line(in *bufio.Reader) (string, error) {
	text, err := in.ReadSlice('\n')
	if err != nil {
		return "", err
	}
	return strings.TrimRight(string(text), "\r\n"), nil
}

// errAnswer is returned for an answer that does not have exactly the form of [Answer].
var errAnswer = errors.New("its answer says nothing that is known here")

// parseAnswer accepts one JSON object with the keys of [Answer] in their exact spelling, none of
// them twice, and nothing behind it. An answer that this program understands only in part might
// mean another. Package json would ignore the case of keys and take the last of two.
func parseAnswer(body []byte) (Answer, error) {
	var a Answer
	fields := map[string]any{
		"outcome": &a.Outcome, "reason": &a.Reason, "rule": &a.Rule, "more": &a.More, "note": &a.Note, "fault": &a.Fault,
	}
	d := json.NewDecoder(bytes.NewReader(body))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return Answer{}, errAnswer
	}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return Answer{}, err
		}
		key, _ := t.(string)
		field, ok := fields[key]
		if !ok {
			return Answer{}, errAnswer
		}
		delete(fields, key)
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return Answer{}, err
		}
		if string(value) == "null" {
			return Answer{}, errAnswer
		}
		if err := json.Unmarshal(value, field); err != nil {
			return Answer{}, err
		}
	}
	if _, err := d.Token(); err != nil { // the closing brace
		return Answer{}, err
	}
	if _, err := d.Token(); err != io.EOF || !a.valid() {
		return Answer{}, errAnswer
	}
	return a, nil
}
