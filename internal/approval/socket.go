package approval

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/stopguard/stopguard/policy/ticket"
)

// socket is the path of the socket for requests and approvals. Every user may connect, and the
// kernel identifies the user.
const socket = "/run/stopguard/tickets.sock"

func socketPath(root string) string { return filepath.Join("/", root, socket) }

// maxBody bounds a client's body, in bytes.
const maxBody = 16 << 10

// The limits of connections. Otherwise a user could keep the others out.
const (
	maxClients = 64
	maxOfUser  = 8
)

// pace is how often Serve reads the site's rules.
const pace = time.Second

// call is the body of a client's request.
type call struct {
	Ask
	ID string `json:"id"`
}

// answer is the body of the agent's answer.
type answer struct {
	Error    string         `json:"error,omitempty"`
	Request  *Request       `json:"request,omitempty"`
	Requests []Request      `json:"requests,omitempty"`
	Ticket   *ticket.Ticket `json:"ticket,omitempty"`
}

type personKey struct{}

// Serve answers clients at the socket until ctx ends. The socket exists while the site requires
// approvals. Serve calls log with the error if the socket cannot be opened.
func (b *Board) Serve(ctx context.Context, log func(error)) {
	var server *http.Server
	stop := func() {
		if server != nil {
			server.Close()
			server = nil
		}
	}
	defer stop()
	tick := time.NewTicker(pace)
	defer tick.Stop()
	last := ""
	for {
		rules, err := b.Approvals()
		switch {
		case err != nil: // clients get the error that the policy cannot be loaded
		case rules == nil:
			stop()
		case server == nil:
			if server, err = b.listen(); err != nil && err.Error() != last {
				last = err.Error()
				log(err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (b *Board) listen() (*http.Server, error) {
	path := socketPath(b.Root)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o666); err != nil {
		l.Close()
		return nil, err
	}
	server := &http.Server{
		Handler: b.handler(), ReadTimeout: 5 * time.Second, WriteTimeout: 10 * time.Second, MaxHeaderBytes: 8 << 10,
		// The client is identified at once, because its process may be gone later.
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			p, err := personOf(c)
			return context.WithValue(ctx, personKey{}, func() (ticket.Person, error) { return p, err })
		},
	}
	server.SetKeepAlivesEnabled(false)
	go server.Serve(&limited{Listener: l, slots: make(chan struct{}, maxClients), users: map[uint32]int{}})
	return server, nil
}

func (b *Board) handler() http.Handler {
	mux := http.NewServeMux()
	for path, do := range map[string]func(ticket.Person, call, time.Time) (answer, error){
		"/v1/tickets/request": func(p ticket.Person, c call, now time.Time) (answer, error) {
			r, t, err := b.Request(p, c.Ask, now)
			return answer{Request: &r, Ticket: t}, err
		},
		"/v1/tickets/approve": func(p ticket.Person, c call, now time.Time) (answer, error) {
			r, t, err := b.Approve(p, c.ID, now)
			return answer{Request: &r, Ticket: t}, err
		},
		"/v1/tickets/reject": func(p ticket.Person, c call, now time.Time) (answer, error) {
			r, err := b.Reject(p, c.ID, now)
			return answer{Request: &r}, err
		},
		"/v1/tickets/list": func(p ticket.Person, _ call, now time.Time) (answer, error) {
			all, err := b.List(p, now)
			return answer{Requests: all}, err
		},
	} {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
			a, err := serve(r, do)
			if err != nil {
				a = answer{Error: err.Error()}
			}
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(a)
		})
	}
	return mux
}

func serve(r *http.Request, do func(ticket.Person, call, time.Time) (answer, error)) (answer, error) {
	identify, ok := r.Context().Value(personKey{}).(func() (ticket.Person, error))
	if !ok {
		return answer{}, errors.New("it is not known who asks; report this")
	}
	p, err := identify()
	if err != nil {
		return answer{}, err
	}
	var c call
	d := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxBody))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return answer{}, fmt.Errorf("the request cannot be read: %w; use stopguard ticket", err)
	}
	return do(p, c, time.Now())
}

// A limited listener limits the connections at once, in all and of each user. It closes further
// connections of a user.
type limited struct {
	net.Listener
	slots chan struct{}

	mu    sync.Mutex
	users map[uint32]int // connections, by user
}

func (l *limited) Accept() (net.Conn, error) {
	for {
		l.slots <- struct{}{}
		c, err := l.Listener.Accept()
		if err != nil {
			<-l.slots
			return nil, err
		}
		u, isUnix := c.(*net.UnixConn)
		if isUnix {
			if uid, err := userOf(u); err == nil && l.enter(uid) {
				return &slotted{UnixConn: u, leave: sync.OnceFunc(func() { l.exit(uid) })}, nil
			}
		}
		<-l.slots
		_ = c.Close()
	}
}

// enter counts a connection of a user. It reports false if the user has too many.
func (l *limited) enter(uid uint32) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.users[uid] >= maxOfUser {
		return false
	}
	l.users[uid]++
	return true
}

func (l *limited) exit(uid uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.users[uid]--; l.users[uid] == 0 {
		delete(l.users, uid)
	}
	<-l.slots
}

type slotted struct {
	*net.UnixConn
	leave func()
}

func (c *slotted) Close() error {
	c.leave()
	return c.UnixConn.Close()
}

// A Client requests and approves tickets at a host's agent.
type Client struct{ Root string }

// ErrNoAgent is returned if an agent does not answer.
var ErrNoAgent = errors.New("no agent answers at " + socket + ", and only an agent can have a ticket approved; start it, with data.site.tickets in the policy")

func (c Client) Request(ctx context.Context, ask Ask) (Request, *ticket.Ticket, error) {
	a, err := c.call(ctx, "request", call{Ask: ask})
	return a.request(), a.Ticket, err
}

func (c Client) Approve(ctx context.Context, id string) (Request, *ticket.Ticket, error) {
	a, err := c.call(ctx, "approve", call{ID: id})
	return a.request(), a.Ticket, err
}

func (c Client) Reject(ctx context.Context, id string) (Request, error) {
	a, err := c.call(ctx, "reject", call{ID: id})
	return a.request(), err
}

func (c Client) List(ctx context.Context) ([]Request, error) {
	a, err := c.call(ctx, "list", call{})
	return a.Requests, err
}

func (a answer) request() Request {
	if a.Request == nil {
		return Request{}
	}
	return *a.Request
}

func (c Client) call(ctx context.Context, path string, body call) (answer, error) {
	content, err := json.Marshal(body)
	if err != nil {
		return answer{}, err
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socketPath(c.Root))
	if err != nil {
		return answer{}, fmt.Errorf("%w (%v)", ErrNoAgent, err)
	}
	defer conn.Close()
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return conn, nil },
		DisableKeepAlives: true,
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://agent/v1/tickets/"+path, bytes.NewReader(content))
	if err != nil {
		return answer{}, err
	}
	response, err := client.Do(request)
	if err != nil {
		return answer{}, fmt.Errorf("the agent does not answer: %w; look at its log", err)
	}
	defer response.Body.Close()
	var a answer
	if err := json.NewDecoder(io.LimitReader(response.Body, 8<<20)).Decode(&a); err != nil {
		return answer{}, fmt.Errorf("the agent's answer cannot be read: %w; use the same version", err)
	}
	if a.Error != "" {
		return answer{}, errors.New(a.Error)
	}
	return a, nil
}
