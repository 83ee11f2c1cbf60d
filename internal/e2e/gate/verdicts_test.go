//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stopguard/stopguard"
	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/e2ehost"
	"github.com/stopguard/stopguard/internal/hostgen"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/hostpolicy"
	"github.com/stopguard/stopguard/policy/record"
)

// Each path to a verdict is its own program here, and all of them look at guests that run. The same
// hosts are generated as in TestPromise8_one_verdict_everywhere, which asks about more of them.

const (
	verdictRounds   = 50
	verdictSeed     = 17
	seedVariable    = "STOPGUARD_E2E_SEED" // generates other hosts
	verdictPatience = 10                   // times that a round is repeated while a busy machine makes a decision late
)

var verdictGuests = []e2ehost.Guest{listed, {Name: marked.Name, UUID: marked.UUID}, third, free}

// lateTexts are parts of what is printed if a busy machine makes a decision late.
var lateTexts = []string{"took too long", "no decision within", "did not end in time", "not recorded"}

// A saying is what one program says about a guest.
type saying struct {
	path    string
	refused bool
	line    string // that is printed, if it is refused
	reasons string // "" if the program does not show them
	ticket  string // that lifts the veto
}

func (h *host) verdicts() {
	h.beginDefault(verdictGuests...)
	h.startAgent()
	seed := uint64(verdictSeed)
	if text := os.Getenv(seedVariable); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			h.Fatalf("%s: %v", seedVariable, err)
		}
	}
	var texts []string
	verdicts, refused, lifted := 0, 0, 0
	for round := range verdictRounds {
		h.Doing = fmt.Sprintf("round %d of seed %d", round, seed)
		for try := 0; ; try++ {
			random := rand.New(rand.NewPCG(seed, uint64(round)))
			generated := hostgen.Generate(random, time.Now(), generatedDomains())
			said := h.round(generated)
			text := differences(said)
			if try < verdictPatience && slices.ContainsFunc(lateTexts, func(late string) bool { return strings.Contains(text, late) }) {
				continue
			}
			if text != "" {
				texts = append(texts, fmt.Sprintf("%s:\n%s%s", h.Doing, text, generated))
			}
			for _, about := range said {
				verdicts++
				if about[0].refused {
					refused++
				}
				if about[1].ticket != "" { // the first that shows it
					lifted++
				}
			}
			break
		}
	}
	h.seen = append(h.seen, step{Name: "counts", Records: []string{fmt.Sprint(verdicts), fmt.Sprint(refused), fmt.Sprint(lifted), fmt.Sprint(h.askedOfAgent())}},
		step{Name: "differences", Records: texts})
}

// generatedDomains returns the guests as a generator takes them.
func generatedDomains() []hostgen.Domain {
	var domains []hostgen.Domain
	for _, g := range verdictGuests {
		domains = append(domains, hostgen.Domain{Name: g.Name, UUID: g.UUID, Operation: "stop"})
	}
	return domains
}

// round makes the host as it was generated, and returns what each program says about each guest.
func (h *host) round(generated hostgen.Host) [][]saying {
	for _, path := range []string{"/etc/stopguard/policy", ticketFolder, "/var/lib/stopguard/requests", "/run/stopguard/shutting-down", listFile} {
		if err := os.RemoveAll(path); err != nil {
			h.Fatalf("%v", err)
		}
	}
	release, err := generated.Put("")
	defer release()
	if err != nil {
		h.Fatalf("%v", err)
	}
	documents := h.setMarks(generated)
	from := 0
	if info, err := os.Stat("/" + record.File); err == nil {
		from = int(info.Size())
	}
	all := make([][]saying, len(verdictGuests))
	var asked sync.WaitGroup
	for i, g := range verdictGuests {
		asked.Go(func() {
			all[i] = []saying{h.library(documents[i]), h.byCommand("explain", g), h.byHook("hook", "", g, documents[i]), h.byHook("thin hook", "-thin", g, documents[i]), h.byGate(g)}
		})
	}
	asked.Wait()
	for i, s := range h.byCheck() {
		all[i] = append(all[i], s)
	}
	h.fromRecords(from, all)
	return all
}

// setMarks sets each guest's generated marks, and returns the guests' XML. libvirt keeps one
// element of a namespace, and drops an element that it cannot read.
func (h *host) setMarks(generated hostgen.Host) []string {
	const name, namespace = "<protection", ` xmlns="urn:stopguard:protection:1"`
	var script strings.Builder
	for _, d := range generated.Domains {
		mark := name + " until=\"2001-01-01\"/>" // which has lapsed
		if i := slices.IndexFunc(d.Metadata, func(e string) bool { return strings.HasPrefix(e, name+namespace) }); i >= 0 {
			mark = strings.Replace(d.Metadata[i], namespace, "", 1)
		}
		fmt.Fprintf(&script, "metadata %s --live --uri urn:stopguard:protection:1 --key stopguard --set '%s'\ndumpxml %[1]s\n", d.UUID, mark)
	}
	got := h.Command(script.String(), h.Environment(), "virsh", "-c", e2ehost.Direct)
	var documents []string
	for _, part := range strings.Split(got.Stdout, "<domain type")[1:] {
		text, _, _ := strings.Cut(part, "</domain>")
		documents = append(documents, "<domain type"+text+"</domain>\n")
	}
	if len(documents) != len(generated.Domains) || got.Stderr != "" {
		h.Fatalf("the marks are not set: %+v\n%s", got, script.String())
	}
	return documents
}

func (h *host) library(xml string) saying {
	config, err := hostpolicy.Load("")
	if err != nil {
		h.Fatalf("%v", err)
	}
	engine, err := policy.New(context.Background(), config)
	if err != nil {
		h.Fatalf("%v", err)
	}
	domain, err := domainxml.Parse([]byte(xml))
	if err != nil {
		h.Fatalf("%v", err)
	}
	s := saying{path: "library"}
	var veto *hookproto.Veto
	preview := stopguard.Preview(stopguard.Config{Engine: func(context.Context) (*policy.Engine, error) { return engine, nil }})
	err = preview(context.Background(), stopguard.Request{Operation: policy.OperationStop, Domain: domain})
	if s.refused = err != nil; s.refused {
		s.line = err.Error()
		if errors.As(err, &veto) {
			s.line = sameTime(veto.Line(domain.Name))
		}
	}
	return s
}

// A shown is a verdict as the tool writes it.
type shown struct {
	Name      string
	Outcome   string
	Until     time.Time
	Reasons   []record.Reason
	Monitored []record.Reason
	Ticket    string
	Fault     string
}

func (s shown) saying(path string) saying {
	said := saying{path: path, line: s.Fault, reasons: reasonsOf(s.Until, s.Reasons, s.Monitored)}
	if s.Outcome == record.Veto {
		said.refused, said.ticket = s.Ticket == "", s.Ticket
	}
	return said
}

// sinceNow is the time in the reason of a hold that cannot be read, which is that of the question.
var sinceNow = regexp.MustCompile(`since \S+: (\S+ cannot be read)`)

func sameTime(text string) string { return sinceNow.ReplaceAllString(text, "$1") }

// reasonsOf returns reasons as a text, which is never empty.
func reasonsOf(until time.Time, reasons, monitored []record.Reason) string {
	text, err := json.Marshal([]any{until, reasons, monitored})
	if err != nil {
		panic(err)
	}
	return sameTime(strings.ReplaceAll(string(text), "null", "[]"))
}

func (h *host) byCommand(command string, g e2ehost.Guest) saying {
	got := h.tool(command, g.Name, "-o", "json")
	var s shown
	if err := json.Unmarshal([]byte(got.Stdout), &s); err != nil {
		return saying{path: command, refused: true, line: got.Stderr}
	}
	return s.saying(command)
}

func (h *host) byCheck() []saying {
	args := []string{"check", "-o", "json"}
	for _, g := range verdictGuests {
		args = append(args, g.Name)
	}
	got := h.tool(args...)
	var report struct{ Domains []shown }
	if err := json.Unmarshal([]byte(got.Stdout), &report); err != nil || len(report.Domains) != len(verdictGuests) {
		h.Fatalf("check: %v: %+v", err, got)
	}
	var all []saying
	for _, s := range report.Domains {
		all = append(all, s.saying("check"))
	}
	return all
}

func (h *host) byHook(path, suffix string, g e2ehost.Guest, xml string) saying {
	got := h.Command(xml, h.Environment(), os.Getenv(hookVariable)+suffix, g.Name, "stop", "begin", "-")
	return saying{path: path, refused: got.Exit != 0, line: sameTime(strings.TrimSpace(got.Stderr))}
}

// byGate asks for what is decided as a stop and does nothing to a guest without an agent.
func (h *host) byGate(g e2ehost.Guest) saying {
	r := h.dialGate()
	defer r.conn.Close()
	const setPassword = 357
	answer := r.answers(r.frame(setPassword, 2, about(g).optional("root").optional("secret").u(0)), 1)[setPassword]
	if strings.HasPrefix(answer, noAgent) {
		return saying{path: "gate"}
	}
	_, line, _ := strings.Cut(answer, " ")
	return saying{path: "gate", refused: true, line: sameTime(line)}
}

// fromRecords adds the reasons of the records that hook, agent and gate have written since the file
// had a size, and decides each once more by a replay.
func (h *host) fromRecords(from int, all [][]saying) {
	fresh := h.Read("/" + record.File)[from:]
	records := 0
	for line := range strings.Lines(fresh) {
		var e record.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			h.Fatalf("%v: %s", err, line)
		}
		r := e.Result
		i := slices.IndexFunc(verdictGuests, func(g e2ehost.Guest) bool { return g.UUID == r.Domain.UUID })
		if i < 0 || r.Outcome != record.Allow && r.Outcome != record.Veto {
			continue
		}
		records++
		s := saying{path: "record", refused: r.Outcome == record.Veto, reasons: reasonsOf(lastOf(r.Reasons), r.Reasons, r.Monitored)}
		if r.Ticket != nil {
			s.ticket = r.Ticket.ID
		}
		all[i] = append(all[i], s)
	}
	if records < 3*len(all) {
		all[0] = append(all[0], saying{path: "record", line: fmt.Sprintf("%d decisions of %d: not recorded", records, 3*len(all))})
	}
	h.File("/run/decisions.jsonl", fresh, 0o600)
	got := h.tool("replay", "--policy", "/etc/stopguard/policy", "-o", "json", "/run/decisions.jsonl")
	var replayed struct{ Changes []any }
	if err := json.Unmarshal([]byte(got.Stdout), &replayed); err != nil || len(replayed.Changes) > 0 {
		all[0] = append(all[0], saying{path: "replay", refused: !all[0][0].refused, line: got.Stdout + got.Stderr})
	}
}

// lastOf returns when the last reason has lapsed.
func lastOf(reasons []record.Reason) (last time.Time) {
	for _, r := range reasons {
		if r.Until.IsZero() {
			return time.Time{}
		}
		if r.Until.After(last) {
			last = r.Until
		}
	}
	return last
}

// differences returns how what is said of a guest differs; "" if it does not.
func differences(all [][]saying) string {
	var b strings.Builder
	for i, said := range all {
		var first saying // that shows reasons
		for _, s := range said {
			if s.reasons != "" {
				first = s
				break
			}
		}
		line := ""
		differs := func(s saying) bool {
			isOther := s.refused != first.refused || s.reasons != "" && (s.reasons != first.reasons || s.ticket != first.ticket)
			if s.refused && s.line != "" {
				isOther = isOther || line != "" && line != s.line
				line = s.line
			}
			return isOther || !s.refused && s.line != ""
		}
		if slices.ContainsFunc(said, differs) {
			for _, s := range said {
				fmt.Fprintf(&b, "%s: %-9s refused %v %q, reasons %s, ticket %q\n", verdictGuests[i].Name, s.path, s.refused, s.line, s.reasons, s.ticket)
			}
		}
	}
	return b.String()
}

// askedOfAgent returns how many stops the agent has decided.
func (h *host) askedOfAgent() (n int) {
	client := http.Client{Transport: &http.Transport{Dial: func(string, string) (net.Conn, error) { return net.Dial("unix", "/run/stopguard/agent.sock") }}}
	response, err := client.Get("http://agent/metrics")
	if err != nil {
		h.Fatalf("%v", err)
	}
	defer response.Body.Close()
	var b strings.Builder
	if err := response.Write(&b); err != nil {
		h.Fatalf("%v", err)
	}
	for line := range strings.Lines(b.String()) {
		if count, ok := strings.CutPrefix(line, `stopguard_decision_duration_seconds_count{endpoint="hook"} `); ok {
			n, _ = strconv.Atoi(strings.TrimSpace(count))
		}
	}
	return n
}

func TestRealProgramsGiveOneVerdict(t *testing.T) {
	e2ehost.Need(t, toolVariable, hookVariable, agentVariable)
	t.Logf("%s=N generates other hosts; the seed is %d, or its value", seedVariable, verdictSeed)
	for _, s := range on(t, "verdicts") {
		if s.Name == "differences" {
			for _, text := range s.Records {
				t.Error(text)
			}
			continue
		}
		var n [4]int
		for i, text := range s.Records {
			n[i], _ = strconv.Atoi(text)
		}
		t.Logf("%d verdicts: %d refused, %d lifted by a ticket; the agent decided %d", n[0], n[1], n[2], n[3])
		if want := verdictRounds * len(verdictGuests); n[0] != want || n[1] < want/5 || n[1] > want*4/5 || n[2] < want/50 || n[3] < want/2 {
			t.Errorf("too few are of a kind: %v", n)
		}
	}
}
