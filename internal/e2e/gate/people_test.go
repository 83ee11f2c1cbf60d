//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stopguard/stopguard/internal/e2ehost"
	"github.com/stopguard/stopguard/policy/ticket"
)

// A program that works on a guest holds it, and people approve that a guest is stopped. Each is
// tried at the gate, and in the hook, with the agent and without.

const (
	hookVariable  = "STOPGUARD_E2E_PROGRAM" // the built cmd/stopguard-hook, with cmd/stopguard-hook-thin beside it
	agentVariable = "STOPGUARD_E2E_AGENT"   // the built cmd/stopguard-agent

	settingsFile = "/etc/stopguard/policy/data.json"
	ticketFolder = "/var/lib/stopguard/tickets"
	agentLog     = "/run/agent.log"
)

// anna requests, ben and cora approve; dora is not named.
const twoApprovers = `{"site": {"tickets": {"approvers": 2, "who": ["user:anna", "user:ben", "user:cora"], "for": ["pg-*"]%s}}}`

// startAgent starts the agent, which listens then.
func (h *host) startAgent() {
	log, err := os.OpenFile(agentLog, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		h.Fatalf("%v", err)
	}
	defer log.Close()
	h.File("/etc/stopguard/agent.yaml", "stopguard: {}\n", 0o600)
	agent := exec.Command(os.Getenv(agentVariable))
	agent.Stdout, agent.Stderr = log, log
	agent.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := agent.Start(); err != nil {
		h.Fatalf("%v", err)
	}
	h.Until("the agent listens", func() bool {
		info, err := os.Stat("/run/stopguard/agent.sock")
		return err == nil && info.Mode().Type() == os.ModeSocket
	})
}

// hook asks a hook's program about a stop, as libvirt would.
func (h *host) hook(suffix string, g e2ehost.Guest) e2ehost.Answer {
	return h.Command(h.LiveXML(g), h.Environment(), os.Getenv(hookVariable)+suffix, g.Name, "stop", "begin", "-")
}

// everywhere notes the answers of the gate, the hook and the thin hook.
func (h *host) everywhere(name string, g e2ehost.Guest) {
	h.Doing = name
	h.note(name+": the hook", h.hook("", g))
	h.note(name+": the thin hook", h.hook("-thin", g))
	h.note(name+": the gate", h.Virsh("destroy", g.Name))
	h.seen[len(h.seen)-1].State = h.State(g)
}

// asUser runs a program as a user, after another one logged in if there is one. Where a container
// may not set the kernel's record of the login, a file is put over it.
const asUser = `
if [ -n "$1" ]; then
  login=$(id -u "$1")
  { echo "$login" >/proc/$$/loginuid; } 2>/dev/null || { echo "$login" >/run/login && mount --bind /run/login /proc/$$/loginuid; } || exit
fi
user=$2
shift 2
exec setpriv --reuid="$user" --regid="$user" --init-groups "$@"
`

// by runs the tool as a user, or as a user who has become another one.
func (h *host) by(login, user string, args ...string) e2ehost.Answer {
	words := []string{"-c", asUser, "sh", login, user, os.Getenv(toolVariable)}
	return h.Command("", h.Environment(), "sh", append(words, args...)...)
}

func (h *host) people() {
	h.beginDefault(listed, free)
	for _, user := range []string{"anna", "ben", "cora", "dora"} {
		h.Run("useradd", "-M", user)
	}
	h.File(settingsFile, fmt.Sprintf(twoApprovers, ""), 0o644)
	h.startAgent()
	h.held()
	h.approved()
}

// held has a program hold a guest, and kills it.
func (h *host) held() {
	h.Doing = "a backup holds a guest"
	hold := exec.Command(os.Getenv(toolVariable), "hold", free.Name, "--reason", "nightly backup", "--", "sleep", "4711")
	hold.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := hold.Start(); err != nil {
		h.Fatalf("%v", err)
	}
	sleeps := func() bool { return h.Command("", h.Environment(), "pgrep", "-fx", "sleep 4711").Exit == 0 }
	h.Until("the command runs", sleeps)
	h.everywhere("it is held", free)
	h.note("check", h.tool("check", "-o", "wide", free.Name))
	h.Signal(hold.Process.Pid, syscall.SIGKILL)
	_ = hold.Wait()
	h.Until("the command has ended", func() bool { return !sleeps() })
	h.note("the holder was killed: the hook", h.hook("", free))
	h.note("the holder was killed: the gate", h.Virsh("destroy", free.Name))
	h.seen[len(h.seen)-1].State = h.State(free)
}

// approved has people request and approve a ticket, and one person try it alone.
func (h *host) approved() {
	request := func(name string) string {
		h.Doing = name
		got := h.by("", "anna", "ticket", "request", listed.UUID, "--reason", "disk swap", "--for", "1h")
		h.note(name, got)
		words := strings.Fields(got.Stdout)
		if len(words) < 2 {
			h.Fatalf("no request: %+v", got)
		}
		return strings.TrimSuffix(words[1], ":")
	}
	h.note("root grants a ticket", h.tool("ticket", "grant", listed.Name, "--reason", "x"))
	h.note("root grants one for all", h.tool("ticket", "grant", "--all", "--reason", "x"))
	h.note("dora requests one", h.by("", "dora", "ticket", "request", listed.UUID, "--reason", "x"))
	h.note("anna breaks the glass, which the site does not allow", h.by("", "anna", "ticket", "request", listed.UUID, "--reason", "x", "--break-glass"))

	h.File(settingsFile, fmt.Sprintf(twoApprovers, `, "approve_within": "1s"`), 0o644)
	late := request("anna requests one for a second")
	time.Sleep(1100 * time.Millisecond)
	h.note("ben approves it later", h.by("", "ben", "ticket", "approve", late))
	h.File(settingsFile, fmt.Sprintf(twoApprovers, ""), 0o644)

	id := request("anna requests one")
	h.note("anna approves it", h.by("", "anna", "ticket", "approve", id))
	h.note("anna approves it with sudo", h.by("anna", "root", "ticket", "approve", id))
	h.note("anna approves it with sudo -u ben", h.by("anna", "ben", "ticket", "approve", id))
	h.note("root approves it", h.by("", "root", "ticket", "approve", id))
	h.note("dora approves it", h.by("", "dora", "ticket", "approve", id))
	h.note("ben approves it with sudo", h.by("ben", "root", "ticket", "approve", id))
	h.note("ben approves it once more", h.by("", "ben", "ticket", "approve", id))
	h.everywhere("one other has approved", listed)

	h.forge(id)
	h.everywhere("a ticket is written by hand", listed)
	h.Run("sh", "-c", "rm "+ticketFolder+"/*.json")

	h.note("cora approves it", h.by("", "cora", "ticket", "approve", id))
	granted := h.Read(filepath.Join(ticketFolder, id+".json"))
	h.everywhere("two others have approved", listed)

	h.Doing = "the ticket is used"
	h.DirectOK("start", listed.Name)
	h.Ask(listed)
	h.everywhere("the next run", listed)
	h.File(filepath.Join(ticketFolder, "0123456789abcdef.json"), strings.Replace(granted, id, "0123456789abcdef", 1), 0o600)
	h.everywhere("the used ticket is copied", listed)
}

// forge writes a ticket that says that two have approved it.
func (h *host) forge(id string) {
	list, err := json.Marshal(h.tool("ticket", "list", "-o", "json").Stdout)
	if err != nil || !strings.Contains(string(list), id) {
		h.Fatalf("the request is not listed: %s", list)
	}
	granted, err := ticket.Store{}.Grant(ticket.Ticket{Domain: listed.UUID, Operation: "stop", Reason: "disk swap", Requester: "anna", NotAfter: time.Now().Add(time.Hour)}, time.Now())
	if err != nil {
		h.Fatalf("%v", err)
	}
	granted.Approval = &ticket.Approval{Requester: ticket.Person{UID: 1}, Approvers: []ticket.Approver{{Person: ticket.Person{UID: 2}}, {Person: ticket.Person{UID: 3}}}, Seal: strings.Repeat("0", 64)}
	content, err := json.Marshal(granted)
	if err != nil {
		h.Fatalf("%v", err)
	}
	h.File(filepath.Join(ticketFolder, granted.ID+".json"), string(content)+"\n", 0o600)
}

func TestAHolderAndTwoOthersDecideAboutAGuest(t *testing.T) {
	e2ehost.Need(t, toolVariable, hookVariable, agentVariable)
	const heldBy = "stopguard: veto: web-01: held by root (pid "
	want := map[string]expected{
		"check":                                                {0, "nightly backup", "", "", nil},
		"the holder was killed: the hook":                      {0, "", "", "", nil},
		"the holder was killed: the gate":                      {0, "", destroyed, "", nil},
		"root grants a ticket":                                 {1, "pg-primary-01 needs a ticket with 2 approvals", "", "", nil},
		"root grants one for all":                              {0, "does not lift the vetoes of domains that need 2 approvals", "", "", nil},
		"dora requests one":                                    {1, "is not among those", "", "", nil},
		"anna requests one for a second":                       {0, "once 2 others approve", "", "", nil},
		"ben approves it later":                                {1, "too late to approve it", "", "", nil},
		"anna requests one":                                    {0, "once 2 others approve", "", "", nil},
		"anna approves it":                                     {1, "anna requested it, and does not count", "", "", nil},
		"anna approves it with sudo":                           {1, "anna requested it, and does not count", "", "", nil},
		"anna approves it with sudo -u ben":                    {1, "anna logged in and became ben, who does not count then", "", "", nil},
		"root approves it":                                     {1, "is not among those", "", "", nil},
		"dora approves it":                                     {1, "is not among those", "", "", nil},
		"ben approves it with sudo":                            {0, "has 1 of 2 approvals", "", "", nil},
		"ben approves it once more":                            {1, "ben has approved it already", "", "", nil},
		"cora approves it":                                     {0, "may be stopped until", "", "", nil},
		"two others have approved: the gate":                   {0, "", destroyed, "", nil},
		"anna breaks the glass, which the site does not allow": {1, "this site does not allow --break-glass", "", "", nil},
	}
	for _, path := range []string{"the hook", "the thin hook", "the gate"} {
		state := ""
		if path == "the gate" {
			state = "running"
		}
		want["it is held: "+path] = expected{1, heldBy, state, "", nil}
		for _, name := range []string{"one other has approved", "a ticket is written by hand", "the next run", "the used ticket is copied"} {
			want[name+": "+path] = expected{1, byList, state, "", nil}
		}
		if path != "the gate" {
			want["two others have approved: "+path] = expected{0, "", "", "", nil}
		}
	}
	seen := on(t, "people")
	compare(t, seen, want)
	for _, s := range seen {
		if strings.HasPrefix(s.Name, "it is held: ") && !strings.Contains(s.Through.Stderr, ": nightly backup (rule hold)") {
			t.Errorf("%s does not say why: %s", s.Name, s.Through.Stderr)
		}
	}
}
