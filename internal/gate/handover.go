package gate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stopguard/stopguard/internal/gate/relay"
)

const (
	// stateVariable is set to the descriptor of the state that a program takes over.
	stateVariable = "STOPGUARD_GATE_STATE"

	// checkVariable is set if the program only checks whether it is able to take over.
	checkVariable = "STOPGUARD_GATE_CHECK"

	// stateFormat changes with the meaning of the state. A gate also takes over a state of
	// formerFormat, in which no peer has named a client.
	stateFormat  = 3
	formerFormat = 2

	checkTimeout = 10 * time.Second
	readyText    = "stopguard-gate can take over\n"

	maxState = 1 << 30
)

// quiesceTimeouts are the times of the attempts to pause all connections. After a failed attempt
// all connections continue for as long as the attempt took. A decision may take 5 s; clients that
// expect signs of life from libvirtd wait for 25 s or more.
var quiesceTimeouts = []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 6 * time.Second}

// A state is everything that a gate's program hands over to the next one. Its file has it as JSON,
// followed by the begun calls of the connections, one after the other.
type state struct {
	Format  int
	Sockets []socketState
	Metrics string // Metrics is the path of the metrics file; "" if there is not one.
}

// A socketState is a listening socket with the connections that it has accepted.
type socketState struct {
	Path        string
	ReadOnly    bool
	Listener    int
	Made        bool // Made is set if the gate, and not systemd, has made the socket.
	Connections []connectionState
}

type connectionState struct {
	relay.ConnState
	BegunBytes int
}

// program is the path of this program at its start. Meanwhile, another program may be there.
var program, programErr = os.Executable()

// handOver runs the installed program, as the same process and with all connections. It returns
// only if that fails, and everything continues as before.
//
// It stays the same process because libvirtd knows the gate by its PID: when polkit is asked about
// a client, it looks for the process that has connected.
func handOver(ctx context.Context, sockets []socket, metrics string) (err error) {
	if programErr != nil {
		return programErr
	}
	s := state{Format: stateFormat, Metrics: metrics}
	for _, socket := range sockets {
		s.Sockets = append(s.Sockets, socketState{Path: socket.path, ReadOnly: socket.readOnly, Listener: -1, Made: socket.own})
	}
	// First without connections, while clients do not have to wait yet.
	if err := check(s); err != nil {
		return err
	}
	defer func() {
		for _, socket := range sockets {
			socket.gate.Resume()
		}
	}()
	if err := quiesceAtIntervals(ctx, sockets); err != nil {
		return err
	}
	descriptors, err := s.addConnections(sockets)
	if err != nil {
		return err
	}
	if err := check(s); err != nil { // again with the whole state
		return err
	}
	f, err := s.file()
	if err != nil {
		return err
	}
	defer f.Close()
	descriptors = append(descriptors, int(f.Fd()))
	defer func() { err = errors.Join(err, setInherited(descriptors, false)) }()
	if err := setInherited(descriptors, true); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	// Otherwise a SIGHUP before the new program catches it would end the process.
	signal.Ignore(syscall.SIGHUP)
	environment := append(os.Environ(), fmt.Sprintf("%s=%d", stateVariable, f.Fd()))
	return fmt.Errorf("%s cannot be run: %w", program, syscall.Exec(program, os.Args, environment))
}

// quiesceAtIntervals pauses all gates, in the attempts that quiesceTimeouts has.
func quiesceAtIntervals(ctx context.Context, sockets []socket) error {
	for i, limit := range quiesceTimeouts {
		err := quiesce(ctx, sockets, limit)
		if err == nil || i == len(quiesceTimeouts)-1 {
			return err
		}
		for _, socket := range sockets {
			socket.gate.Resume()
		}
		select {
		case <-time.After(limit):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// addConnections adds the listeners and the connections of gates that have paused, and returns the
// descriptors that the next program needs.
func (s *state) addConnections(sockets []socket) (descriptors []int, err error) {
	for i, socket := range sockets {
		t := &s.Sockets[i]
		if t.Listener, err = descriptorOf(socket.listener); err != nil {
			return nil, err
		}
		descriptors = append(descriptors, t.Listener)
		for _, c := range socket.gate.States() {
			t.Connections = append(t.Connections, connectionState{c, len(c.Begun)})
			descriptors = append(append(descriptors, c.Client), c.Descriptors...)
			if c.Server >= 0 {
				descriptors = append(descriptors, c.Server)
			}
		}
	}
	return descriptors, nil
}

// quiesce pauses all gates. It returns an error if some connection has not paused in time.
func quiesce(ctx context.Context, sockets []socket, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var busy []relay.Busy
	for _, socket := range sockets {
		busy = append(busy, socket.gate.Quiesce(ctx)...)
	}
	if len(busy) == 0 {
		return nil
	}
	for _, b := range busy {
		slog.Info("a connection does not come to rest", "uid", b.UID, "pid", b.PID, "why", b.Why)
	}
	const named = 5
	var examples []string
	for _, b := range busy[:min(named, len(busy))] {
		examples = append(examples, fmt.Sprintf("process %d of user %d: %s", b.PID, b.UID, b.Why))
	}
	return fmt.Errorf("%d connections do not come to rest, such as %s; end these clients, or try again", len(busy), strings.Join(examples, "; "))
}

// check runs the installed program as a child that checks whether it is able to take over the
// state.
func check(s state) error {
	f, err := s.file()
	if err != nil {
		return err
	}
	defer f.Close()
	ctx, cancel := context.WithTimeout(context.Background(), checkTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.ExtraFiles = []*os.File{f} // descriptor 3
	cmd.Env = append(os.Environ(), stateVariable+"=3", checkVariable+"=1")
	cmd.WaitDelay = time.Second
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err == nil && string(out) != readyText {
		err = errors.New("it is another program, or an older one")
	}
	if err != nil {
		return fmt.Errorf("%s cannot take over: %w: %.300s; correct what it says, or put another program there, and reload again; a restart ends every connection, and helps only with a program that starts", program, err, strings.TrimSpace(stderr.String()))
	}
	return nil
}

// file returns a file in memory with the state.
func (s state) file() (*os.File, error) {
	data, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("stopguard-gate", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "state")
	_, err = f.Write(data)
	for _, socket := range s.Sockets {
		for _, c := range socket.Connections {
			if err == nil {
				_, err = f.Write(c.Begun)
			}
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// takeOver reads the state of the previous program; nil if this program does not follow another
// one. It returns an error if the sockets in the state are not those of this program.
func takeOver(sockets []socket) (*state, error) {
	text := os.Getenv(stateVariable)
	if text == "" {
		return nil, nil
	}
	_ = os.Unsetenv(stateVariable)
	fd, err := strconv.Atoi(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", stateVariable, err)
	}
	f := os.NewFile(uintptr(fd), "state")
	if f == nil {
		return nil, fmt.Errorf("%s: %w", stateVariable, os.ErrInvalid)
	}
	defer f.Close()
	content := io.NewSectionReader(f, 0, maxState)
	d := json.NewDecoder(content)
	d.DisallowUnknownFields()
	s := &state{}
	if err := d.Decode(s); err != nil {
		return nil, fmt.Errorf("the state of the gate cannot be read: %w; restart the gate", err)
	}
	same := slices.EqualFunc(s.Sockets, sockets, func(a socketState, b socket) bool { return a.Path == b.path && a.ReadOnly == b.readOnly })
	if s.Format != stateFormat && s.Format != formerFormat || !same {
		return nil, errors.New("the state is another version's, or of other sockets; restart the gate")
	}
	begun := io.MultiReader(d.Buffered(), content)
	for _, socket := range s.Sockets {
		for i := range socket.Connections {
			c := &socket.Connections[i]
			if c.Begun, err = io.ReadAll(io.LimitReader(begun, int64(c.BegunBytes))); err == nil && len(c.Begun) != c.BegunBytes {
				err = io.ErrUnexpectedEOF
			}
			if err != nil {
				return nil, fmt.Errorf("the state of the gate has not what was begun of a call: %w; report this", err)
			}
		}
	}
	return s, nil
}

// listenerOf returns a listener on a duplicate of the descriptor, and closes the descriptor.
func listenerOf(descriptor int) (*net.UnixListener, error) {
	f := os.NewFile(uintptr(descriptor), "listener")
	if f == nil {
		return nil, os.ErrInvalid
	}
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	u, ok := l.(*net.UnixListener)
	if !ok {
		return nil, errors.Join(errors.New("what is to be listened on is no Unix socket; restart the gate"), l.Close())
	}
	return u, nil
}

// descriptorOf returns the number of a listener's descriptor. The listener still owns it.
func descriptorOf(l *net.UnixListener) (int, error) {
	raw, err := l.SyscallConn()
	if err != nil {
		return -1, err
	}
	d := -1
	err = raw.Control(func(fd uintptr) { d = int(fd) })
	return d, err
}

// setInherited sets whether descriptors stay open in the next program.
func setInherited(descriptors []int, open bool) error {
	flag := unix.FD_CLOEXEC
	if open {
		flag = 0
	}
	for _, d := range descriptors {
		if _, err := unix.FcntlInt(uintptr(d), unix.F_SETFD, flag); err != nil {
			return err
		}
	}
	return nil
}
