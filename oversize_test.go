package stopguard_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/testhost"
	"github.com/stopguard/stopguard/policy/ticket"
)

const heavyUUID = "aa8e6271-5cee-4502-a7df-a116d6946308"

// heavyXML is a domain whose owner has written so many quotation marks into its description, which
// libvirt writes as six bytes each.
func heavyXML(quotes int) func() io.Reader {
	return func() io.Reader {
		return io.MultiReader(
			strings.NewReader("<domain type='kvm' id='3'><name>web-01</name><uuid>"+heavyUUID+"</uuid><description>"),
			strings.NewReader(strings.Repeat("&quot;", quotes)),
			strings.NewReader("</description><metadata/><memory unit='KiB'>1024</memory></domain>"))
	}
}

// The hook's own process is limited to 1 GiB, and to 2 s: it answers within both, or not at all.
func TestPromise4_an_owner_who_writes_much_causes_no_fault(t *testing.T) {
	if testing.Short() {
		t.Skip("starts hooks with megabytes of XML")
	}
	const most = 4 << 20 // quotation marks in one call to libvirt
	listed := []string{"etc/libvirt/protected-domains", "web-01\n"}
	off := func(t *testing.T, root string) {
		testhost.Daemon(t, root)
		mkdir(t, root, "run/libvirt/qemu")
	}
	ticketed := func(t *testing.T, root string) {
		if _, err := (ticket.Store{Root: root}).Grant(ticket.Ticket{Domain: heavyUUID, Operation: "stop", Reason: "x", Requester: "y", NotAfter: time.Now().Add(time.Hour)}, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	unreadable := func(t *testing.T, root string) {
		pid := guest(t, heavyUUID).Process.Pid
		state := mkdir(t, root, "run/libvirt/qemu")
		for name, content := range map[string]string{"other.pid": fmt.Sprintln(pid), "other.xml": "<domstatus"} {
			if err := os.WriteFile(filepath.Join(state, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	counting := []string{"etc/stopguard/policy/data.yaml", "site:\n  min_running:\n    groups:\n      - {name: dns, min: 1, members: [\"dns-*\"]}\n"}
	for _, tt := range []struct {
		name, why string
		files     []string
		prepare   func(*testing.T, string)
		stdin     func() io.Reader
		exit      int
		line      string
	}{
		{"as much as one call takes", "it is not a mark", nil, nil, heavyXML(most), hookproto.ExitAllow, ""},
		{"as much, of a listed domain", "the veto is the list's", listed, nil, heavyXML(most), hookproto.ExitVeto, "(rule protected_list)"},
		{"more than is read", "what stands behind it is not known", nil, nil, heavyXML(3 * most), hookproto.ExitVeto, "virsh dumpxml (rule protection_mark)"},
		{"more than is read, with a ticket", "a ticket lifts it", nil, ticketed, heavyXML(3 * most), hookproto.ExitAllow, ""},
		{"more than is read, in monitor mode", "what the rules cannot judge is refused whatever they are", []string{"etc/stopguard/policy/data.yaml", "site:\n  monitor: [\"*\"]\n"}, nil, heavyXML(3 * most),
			hookproto.ExitVeto, "its XML is too large to be read, so that the rules cannot judge it; make its metadata smaller (rule domain_xml)"},
		{"more than is read, of a domain that is off", "a veto would wedge it", listed, off, heavyXML(3 * most), hookproto.ExitAllow, ""},
		{"another domain's status file that cannot be read, on a host with a rule that counts", "it is that domain's trouble", counting, unreadable, heavyXML(1), hookproto.ExitAllow, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := testhost.Root(t, tt.files...)
			if tt.prepare != nil {
				tt.prepare(t, root)
			}
			got := hook(t, root, tt.stdin(), stopArgs("web-01")...)
			if isLate(got.Line) {
				t.Log("the machine is too busy")
				return
			}
			if got.Exit != tt.exit || !strings.Contains(got.Line, tt.line) {
				t.Errorf("%+v, want exit %d and %q because %s", got, tt.exit, tt.line, tt.why)
			}
		})
	}
}

// isLate reports whether a hook ran out of its 2 s, as it may on a machine that is busy.
func isLate(line string) bool {
	return strings.Contains(line, "did not end in time") || strings.Contains(line, "within 2 s") || strings.Contains(line, "took too long")
}
