//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stopguard/stopguard/internal/e2ehost"
	"github.com/stopguard/stopguard/policy/record"
)

// libvirtd asks for a name and a password on its Unix socket. It wants no layer of encryption
// there, though DIGEST-MD5 could make one: so the gate can read the calls.
const (
	saslConfig = `auth_unix_rw = "sasl"
sasl_allowed_username_list = [ "ops", "carl" ]
unix_sock_rw_perms = "0777"
`
	saslMechanisms = "mech_list: SCRAM-SHA-256 DIGEST-MD5\nsasldb_path: /etc/libvirt/passwd.db\n"
	saslSecret     = "open-sesame"
	adminSocket    = "libvirtd:///system?socket=" + upstreamDir + "/libvirt-admin-sock"
)

// A login is a set of credentials. All belong to the same user of the host.
type login struct{ name, user, mechanism, password string }

var logins = []login{
	{"ops", "ops", "SCRAM-SHA-256", saslSecret},
	{"carl", "carl", "DIGEST-MD5", saslSecret},
	{"a wrong password", "ops", "SCRAM-SHA-256", "guessed"},
	{"another wrong password", "carl", "DIGEST-MD5", "guessed"},
	{"nobody knows him", "nobody", "SCRAM-SHA-256", saslSecret},
	{"eve is not on the list", "eve", "SCRAM-SHA-256", saslSecret},
}

var saslCases = []string{"list --name", "suspend web-01", "resume web-01", "reset web-01", "shutdown nothing", "destroy web-01"}

func (l login) right() bool { return l.name == l.user }

func (l login) file() string { return "/run/share/" + l.user + "-" + l.password }

// command returns a virsh command with the login's credentials.
func (l login) command(args string) []string {
	words := []string{"--reuid=mallory", "--regid=mallory", "--clear-groups", "virsh", "-c", "qemu:///system?auth=sasl." + l.mechanism}
	return append(words, strings.Fields(args)...)
}

func (h *host) loggedIn(l login, args string) e2ehost.Answer {
	return h.Command("", h.loginEnvironment(l), "setpriv", l.command(args)...)
}

func (h *host) loginEnvironment(l login) []string {
	return append(h.Environment(), "LIBVIRT_AUTH_FILE="+l.file(), "HOME=/nonexistent")
}

func (h *host) sasl() {
	h.prepare(saslConfig)
	h.Doing = "users are made"
	h.File("/etc/sasl2/libvirt.conf", saslMechanisms, 0o644)
	h.Run("useradd", "-M", "mallory")
	credentials := func(l login) string {
		return fmt.Sprintf("[credentials-test]\nauthname=%s\npassword=%s\n[auth-libvirt-default]\ncredentials=test\n", l.user, l.password)
	}
	for _, l := range logins {
		h.File(l.file(), credentials(l), 0o644)
	}
	for _, user := range []string{"ops", "carl", "eve"} {
		h.Run("sh", "-c", "echo "+saslSecret+" | saslpasswd2 -p -a libvirt -f /etc/libvirt/passwd.db "+user)
	}
	h.File("/etc/libvirt/auth.conf", credentials(logins[0]), 0o600) // root's, who has to log in, too
	h.StartGate()
	h.StartDaemon()
	h.StartGuest(guarded)
	h.StartGuest(free)
	h.Remind(guarded)
	h.Records()

	h.everyLogin(func(s *step, a e2ehost.Answer) { s.Through = a })
	for _, l := range logins[:2] {
		h.Doing = l.name + " and a protected domain"
		h.note(h.Doing, h.loggedIn(l, "destroy "+guarded.Name))
		s := &h.seen[len(h.seen)-1]
		s.State, s.Memory = h.State(guarded), h.Ask(guarded)
	}
	h.note("who it is for the record", e2ehost.Answer{Stdout: h.lastCaller()})
	h.note("who it is for libvirtd", e2ehost.Answer{Stdout: h.clientOf(logins[1])})

	h.Doing = "the gate is taken away"
	h.EndDaemon(syscall.SIGTERM)
	h.EndGate()
	h.File(e2ehost.ConfigFile, saslConfig, 0o644)
	h.StartDaemon()
	noted := h.seen
	h.seen = nil
	h.everyLogin(func(s *step, a e2ehost.Answer) { s.Direct = a })
	for i := range h.seen {
		noted[i].Direct = h.seen[i].Direct
	}
	h.seen = noted
}

func (h *host) everyLogin(put func(*step, e2ehost.Answer)) {
	for _, l := range logins {
		commands := saslCases
		if !l.right() {
			commands = commands[len(commands)-1:]
		}
		for _, command := range commands {
			h.Doing = l.name + ": " + command
			s := step{Name: h.Doing}
			put(&s, h.loggedIn(l, command))
			s.State = h.State(free)
			h.seen = append(h.seen, s)
			if strings.HasPrefix(s.State, "shut off") {
				h.VirshOK("start", free.Name)
			}
		}
	}
}

// lastCaller returns the caller in the newest line of the record.
func (h *host) lastCaller() string {
	lines := strings.Split(strings.TrimSpace(h.Read("/"+record.File)), "\n")
	var e record.Event
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &e); err != nil || e.Result.Request == nil {
		h.Fatalf("%v: %s", err, lines[len(lines)-1])
	}
	return e.Result.Request.User
}

// clientOf returns libvirtd's information about a client that has logged in.
func (h *host) clientOf(l login) string {
	cmd := exec.Command("setpriv", l.command("event --all --loop")...)
	cmd.Env = h.loginEnvironment(l)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		h.Fatalf("%v", err)
	}
	defer func() {
		h.Signal(cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	}()
	admin := func(args ...string) string {
		return h.Command("", h.Environment(), "virt-admin", append([]string{"-c", adminSocket}, args...)...).Stdout
	}
	var info string
	h.Until("the client has logged in", func() bool {
		for _, id := range regexp.MustCompile(`(?m)^ *(\d+) +unix`).FindAllStringSubmatch(admin("client-list", "libvirtd"), -1) {
			if info = admin("client-info", "libvirtd", id[1]); strings.Contains(info, "sasl_user_name") {
				return true
			}
		}
		return false
	})
	return info
}

func TestWhoLogsInByPasswordIsRefusedAndLetGoAsEverybodyElse(t *testing.T) {
	denied, welcome := 0, 0
	for _, s := range on(t, "sasl") {
		t.Run(s.Name, func(t *testing.T) {
			switch {
			case strings.HasSuffix(s.Name, " and a protected domain"):
				if s.Through.Exit != 1 || s.Through.Stderr != "error: Failed to destroy domain 'protected-01'\n"+veto("protected-01")+"\n" {
					t.Errorf("%+v", s.Through)
				}
				if !strings.HasPrefix(s.State, "running") || s.Memory != e2ehost.Kept {
					t.Errorf("it is %s, its memory %q", s.State, s.Memory)
				}
				return
			case s.Name == "who it is for the record":
				if s.Through.Stdout != "mallory" { // and not carl
					t.Error(s.Through.Stdout)
				}
				return
			case s.Name == "who it is for libvirtd":
				for _, line := range []string{`(?m)^sasl_user_name *: *carl$`, `(?m)^unix_user_name *: *mallory$`} {
					if !regexp.MustCompile(line).MatchString(s.Through.Stdout) {
						t.Errorf("there is no %s in %s", line, s.Through.Stdout)
					}
				}
				return
			}
			if diff := cmp.Diff(s.Direct, s.Through); diff != "" {
				t.Errorf("without the gate (-) and with it (+): %s", diff)
			}
			who, command, _ := strings.Cut(s.Name, ": ")
			if who == "ops" || who == "carl" {
				welcome++
				if want := map[string]string{"destroy web-01": destroyed, "suspend web-01": paused}[command]; !strings.HasPrefix(s.State, want) {
					t.Errorf("the domain is %s", s.State)
				}
			} else if s.Through.Exit == 1 && strings.Contains(s.Through.Stderr, "error: authentication failed") && strings.HasPrefix(s.State, "running") {
				denied++
			}
		})
	}
	if welcome != 2*len(saslCases) || denied != 4 {
		t.Errorf("%d commands of those who log in and %d of others", welcome, denied)
	}
}
