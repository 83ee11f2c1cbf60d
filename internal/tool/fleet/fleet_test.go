package fleet

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/stopguard/stopguard/hookproto/remote"
	"github.com/stopguard/stopguard/internal/fleetstatus"
	"github.com/stopguard/stopguard/internal/tool/tooltest"
)

var commands = []func() *cobra.Command{Command}

func status() *fleetstatus.Status {
	return &fleetstatus.Status{
		Host: "kvm-1", Endpoints: []string{"https://10.0.0.1:2379"}, Problems: []fleetstatus.Problem{},
		Groups: []fleetstatus.Group{{
			Name: "pg", Settings: []fleetstatus.Settings{{Min: 1, Hash: "0123456789ab", Hosts: []string{"kvm-1"}}},
			Members: []fleetstatus.Member{
				{Name: "pg-1", UUID: "1", Host: "kvm-1", Reserved: true}, {Name: "pg-2", UUID: "2", Host: "kvm-2"}, {Name: "pg-2", UUID: "2", Host: "kvm-3"},
			},
			Reservations: []fleetstatus.Reservation{{Name: "pg-1", UUID: "1", Host: "kvm-1", Operation: "stop", Requester: "alice", Ticket: "4f2a", Since: "2026-11-28T12:00:00Z"}},
		}},
		Hosts: []fleetstatus.Host{{Name: "kvm-1", IsThere: true}},
	}
}

func TestTheTableSaysWhatRunsAndWhatIsWrong(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 42, 0, time.UTC)
	for _, tt := range []struct {
		why    string
		change func(*fleetstatus.Status)
		want   string
		isFine bool
	}{
		{"all is well", func(*fleetstatus.Status) {}, "" +
			"GROUP  NEED  RUNNING  RESERVED  MEMBERS\n" +
			"pg     1     1        1         pg-1 on kvm-1 (reserved), pg-2 on kvm-2, pg-2 on kvm-3\n" +
			"reserved in pg: stop of pg-1, 42s ago, on kvm-1, requested by alice, with ticket 4f2a\n", true},
		{"no group", func(s *fleetstatus.Status) { s.Groups = nil }, "no host has a group of the fleet\n", true},
		{"too few", func(s *fleetstatus.Status) { s.Groups[0].Settings[0].Min = 2 }, "pg     2     1 ", false},
		{"a lease that has ended", func(s *fleetstatus.Status) { s.Hosts = append(s.Hosts, fleetstatus.Host{Name: "kvm-9"}) }, "the lease of kvm-9 has ended: its members do not count\n", false},
		{"hosts that disagree", func(s *fleetstatus.Status) {
			s.Groups[0].Settings = append(s.Groups[0].Settings, fleetstatus.Settings{Min: 0, Hash: "fedcba9876", Hosts: []string{"kvm-2", "kvm-3"}})
		}, "the hosts disagree about pg: min 1, settings 01234567 on kvm-1; min 0, settings fedcba98 on kvm-2, kvm-3\n", false},
		{"a failure", func(s *fleetstatus.Status) {
			s.Problems = []fleetstatus.Problem{{Part: "https://10.0.0.1:2379", Error: "connection\nrefused"}}
		}, "https://10.0.0.1:2379: connection refused\n", false},
		{"what a terminal obeys", func(s *fleetstatus.Status) { s.Groups[0].Members[1].Name = "pg\x1b[2J" }, "pg\ufffd[2J on kvm-2", true},
	} {
		s := status()
		tt.change(s)
		if got := table(s, now); !strings.Contains(got, tt.want) || isFine(s) != tt.isFine {
			t.Errorf("%s: fine %t\n%s", tt.why, isFine(s), got)
		}
	}
}

func TestTheCommandAsksTheAgent(t *testing.T) {
	s := tooltest.New(t, commands)
	if got := s.Tool("fleet"); got.Code != 1 || !strings.Contains(got.Stderr, "the agent does not answer") {
		t.Errorf("%+v", got)
	}
	answer, code := status(), http.StatusOK
	serveAgent(t, s.Root, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.URL.Path != remote.FleetPath {
			t.Errorf("%s %s", r.Method, r.URL.Path)
		}
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(answer)
	})
	if got := s.Tool("fleet"); got.Code != 0 || !strings.Contains(got.Stdout, "pg-2 on kvm-3") {
		t.Errorf("%+v", got)
	}
	got := s.Tool("fleet", "-o", "json")
	var read fleetstatus.Status
	if err := json.Unmarshal([]byte(got.Stdout), &read); err != nil || read.Groups[0].Name != "pg" {
		t.Errorf("%v %+v", err, got)
	}
	answer.Groups[0].Settings[0].Min = 7
	if got := s.Tool("fleet"); got.Code != 1 || got.Stderr != "" {
		t.Errorf("%+v", got)
	}
	if got := s.Tool("fleet", "-o", "yaml"); got.Code != 2 {
		t.Errorf("%+v", got)
	}
	if code = http.StatusNotFound; !strings.Contains(s.Tool("fleet").Stderr, "takes part in no fleet") {
		t.Error("an agent without a fleet")
	}
}

func serveAgent(t *testing.T, root string, h http.HandlerFunc) {
	t.Helper()
	path := filepath.Join(root, remote.Socket)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: h}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
}
