package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/stopguard/stopguard"
	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/hookproto/remote"
	"github.com/stopguard/stopguard/hookproto/remote/serve"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/hostpolicy"
	"github.com/stopguard/stopguard/policy/record"
)

// Thin rows run the front with the thin program beside the full one, as on a host with an agent.
// This process is the agent: its rules stay loaded, and its part counts in the time that the hook
// takes but not in the hook's own.

func thinRows(s *stage) []row {
	few := names(100)
	listed := append(few[:len(few):len(few)], guest)
	plain, marked := stop(s.unmarked), stop(s.marked)
	thin := sync.OnceValues(s.installThin)
	return []row{
		{"thin hook, stop, moot", 1.0, s.thin(thin, false, few, call{op: "stop", xml: s.ended, dead: true}, plain)},
		{"thin hook, agent, stop, moot", 1.0, s.thin(thin, true, few, call{op: "stop", xml: s.ended, dead: true}, plain)},
		{"thin hook, agent, stop, allowed", 1.0, s.thin(thin, true, few, plain, plain)},
		{"thin hook, agent, stop, vetoed by the list", 1.0, s.thin(thin, true, listed, plain.exits(vetoed), plain.exits(vetoed))},
		{"thin hook, agent, stop, vetoed by a mark", 1.0, s.thin(thin, true, listed, marked.exits(vetoed), plain.exits(vetoed))},
	}
}

// installThin builds both programs and puts a front before them.
func (s *stage) installThin() (string, error) {
	const dir = "thin"
	if _, err := s.build(filepath.Join(dir, "hook-thin"), "./cmd/stopguard-hook-thin"); err != nil {
		return "", err
	}
	return s.install(filepath.Join(dir, "hook"), "./cmd/stopguard-hook")
}

// thin is cold with the thin program, and with an agent or without.
func (s *stage) thin(front func() (string, error), agent bool, list []string, ours, theirs call) func(int) (cost, cost, error) {
	return func(n int) (cost, cost, error) {
		file, err := front()
		if err != nil {
			return cost{}, cost{}, err
		}
		if err := s.set(list); err != nil {
			return cost{}, cost{}, err
		}
		requests := func() int { return 0 }
		if agent {
			var end func()
			if requests, end, err = s.agent(); err != nil {
				return cost{}, cost{}, err
			}
			defer end()
		}
		a, b, err := interleaved(n,
			func() (cost, error) { return s.run(ours, file) },
			func() (cost, error) { return s.run(theirs, "bench/yardstick.sh") },
		)
		if want := agent && !ours.dead; err == nil && want != (requests() == n+warmUp) {
			err = fmt.Errorf("the agent was asked %d times", requests())
		}
		return a, b, err
	}
}

// agent answers at the socket with rules that are loaded once, until it is ended.
func (s *stage) agent() (requests func() int, end func(), err error) {
	config, err := hostpolicy.Load(s.root)
	if err != nil {
		return nil, nil, err
	}
	engine, err := policy.New(context.Background(), config)
	if err != nil {
		return nil, nil, err
	}
	socket := s.path(remote.Socket)
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		return nil, nil, err
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		return nil, nil, err
	}
	var mutex sync.Mutex
	n := 0
	h := serve.Handler(s.decides(engine))
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mutex.Lock()
		n++
		mutex.Unlock()
		h.ServeHTTP(w, r)
	})}
	go func() { _ = server.Serve(l) }()
	requests = func() int {
		mutex.Lock()
		defer mutex.Unlock()
		return n
	}
	return requests, func() { _ = server.Close() }, os.Chmod(socket, 0o600)
}

// decides returns a Handler that handles a stop as the hook does, without loading rules.
func (s *stage) decides(engine *policy.Engine) hookproto.Handler {
	config, state := stopguard.Config{Root: s.root}, hookproto.Host{Root: s.root}
	return func(ctx context.Context, e *hookproto.Event) error {
		xml, err := e.XML(ctx)
		if err != nil {
			return err
		}
		domain, err := domainxml.Parse(xml)
		if err != nil {
			return err
		}
		process := state.Identify(state.Process(e.Domain), domain.UUID, domain.ID)
		in, err := config.Input(engine, domain, process)
		if err != nil {
			return err
		}
		decision, err := engine.Decide(ctx, in)
		if err != nil {
			return err
		}
		recorded, err := engine.Recorded(ctx, in)
		if err != nil {
			return err
		}
		event := record.New("bench", record.Domain{Name: domain.Name, UUID: domain.UUID}, time.Now())
		event.Result.Outcome, event.Input = decision.Outcome.String(), recorded.Input
		if err := (record.Recorder{Root: s.root}).Write(ctx, event); err != nil {
			return err
		}
		switch decision.Outcome {
		case policy.Allow:
			return nil
		case policy.Veto:
			return &hookproto.Veto{Reason: decision.Reasons[0].Message, Rule: decision.Reasons[0].Rule}
		}
		return errors.New("no decision")
	}
}
