//go:build e2e

package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stopguard/stopguard/internal/e2ehost"
	"github.com/stopguard/stopguard/internal/gate/wire"
)

// These are ways to end a protected guest for a client that may do everything that is not vetoed.
// The guests are protected as most are: pg-primary-01 by the list, against a stop; billing-01 by a
// mark, against the operation modify, too.

// detour is a way to end a guest in several steps, or by a call that does more than its name says.
type detour struct {
	name  string
	guest e2ehost.Guest
	args  []string
	want  expected
}

const (
	endsByReset = `<on_reboot>destroy</on_reboot>`
	noReboot    = `<qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><qemu:arg value='-no-reboot'/></qemu:commandline>`
	pretend     = `<protection xmlns="urn:stopguard:protection:1" until="2001-01-01"/>`
)

var detours = []detour{
	{"a reset shall end it from now on", listed, []string{"set-lifecycle-action", listed.Name, "reboot", "destroy", "--live"},
		expected{1, byList, "running", e2ehost.Kept, []string{"pg-primary-01 stop veto protected_list"}}},
	{"and if that is not said to be live", listed, []string{"set-lifecycle-action", listed.Name, "reboot", "destroy"},
		expected{1, byList, "running", e2ehost.Kept, []string{"pg-primary-01 stop veto protected_list"}}},
	{"when it starts anew", listed, []string{"set-lifecycle-action", listed.Name, "reboot", "destroy", "--config"},
		expected{0, "", "running", e2ehost.Kept, []string{"pg-primary-01 modify allow"}}},
	{"a reset that ends nothing", listed, []string{"reset", listed.Name},
		expected{0, "", "running", e2ehost.Fresh, []string{"pg-primary-01 reset allow"}}},
	{"a dump of its memory while it runs", marked, []string{"dump", marked.Name, "/run/x.core", "--live", "--memory-only"},
		expected{0, "", "running", e2ehost.Kept, []string{"billing-01 pause allow"}}},
	{"the mark's namespace behind another one", marked, []string{"metadata", marked.Name, "--uri", "urn:other", "--key", "other", "--set", pretend, "--live", "--config"},
		expected{0, "", "running", e2ehost.Kept, nil}},
	{"and then a stop", marked, []string{"destroy", marked.Name},
		expected{1, byMark, "running", e2ehost.Kept, []string{"billing-01 stop veto protection_mark"}}},
	{"and a stop after libvirtd has read its metadata anew", marked, []string{"destroy", marked.Name},
		expected{1, byMark, "running", e2ehost.Kept, []string{"billing-01 stop veto protection_mark"}}},
	{"and the other one goes again", marked, []string{"metadata", marked.Name, "--uri", "urn:other", "--remove", "--live", "--config"},
		expected{0, "", "running", e2ehost.Kept, nil}},
	{"and a stop once more", marked, []string{"destroy", marked.Name},
		expected{1, byMark, "running", e2ehost.Kept, []string{"billing-01 stop veto protection_mark"}}},
}

func (h *host) attacks() {
	h.beginDefault(listed, marked, free)
	for _, d := range detours {
		h.Doing = d.name
		if strings.Contains(d.name, "anew") && d.guest == marked {
			h.restartDaemon(syscall.SIGTERM)
		}
		got := h.Virsh(d.args...)
		h.seen = append(h.seen, step{Name: d.name, Through: got, State: h.State(d.guest), Memory: h.Ask(d.guest), Records: h.Records()})
	}

	for what, definition := range map[string]string{
		"it ends at a reset by its definition":    strings.Replace(listed.XML(), "<on_crash>", endsByReset+"<on_crash>", 1),
		"it ends at a reset by QEMU's own option": strings.Replace(listed.XML(), "</devices>", "</devices>"+noReboot, 1),
	} {
		h.Doing = what
		h.DirectOK("destroy", listed.Name)
		h.File("/run/listed.xml", definition, 0o600)
		h.DirectOK("define", "/run/listed.xml")
		h.DirectOK("start", listed.Name)
		h.Ask(listed)
		h.Remind(listed)
		h.Records()
		got := h.Virsh("reset", listed.Name)
		h.seen = append(h.seen, step{Name: what, Through: got, State: h.State(listed), Memory: h.Ask(listed), Records: h.Records()})
	}

	h.Doing = "the saved memory is thrown away"
	h.DirectOK("managedsave", marked.Name)
	h.record("a boot that is forced", h.Virsh("start", marked.Name, "--force-boot"), marked)
	h.DirectOK("start", marked.Name)
	h.seen = append(h.seen, step{Name: "and one that is not", State: h.State(marked), Memory: h.Ask(marked)})

	h.Doing = "a snapshot with another definition"
	h.DirectOK("destroy", marked.Name)
	h.Run("qemu-img", "create", "-q", "-f", "qcow2", marked.Disk()+".qcow2", "1M")
	qcow2 := func(xml string) string {
		return strings.NewReplacer("type='raw'", "type='qcow2'", marked.Disk(), marked.Disk()+".qcow2").Replace(xml)
	}
	h.File("/run/marked.xml", qcow2(marked.XML()), 0o600)
	h.DirectOK("define", "/run/marked.xml")
	h.DirectOK("snapshot-create-as", marked.Name, "before")
	got := h.OnDirect("snapshot-dumpxml", marked.Name, "before")
	h.File("/run/snapshot.xml", regexp.MustCompile(`(?s)<metadata>.*?</metadata>`).ReplaceAllString(got.Stdout, ""), 0o600)
	h.Records()
	h.record("its definition is changed", h.Virsh("snapshot-create", marked.Name, "/run/snapshot.xml", "--redefine"), marked)
	h.record("it is reverted to", h.Virsh("snapshot-revert", marked.Name, "before"), marked)
	h.note("the mark", h.Virsh("metadata", marked.Name, "--uri", "urn:stopguard:protection:1", "--config"))

	h.Doing = "the last steps of a migration that has not begun"
	for _, frame := range lastSteps(listed) {
		r := h.dialGate()
		procedure := wire.ReadHeader(frame).Procedure
		h.record(fmt.Sprint("the last steps of a migration, ", procedure), e2ehost.Answer{Stdout: r.answers(frame, 1)[procedure]}, listed)
	}

	h.Doing = "calls before it is known who calls"
	r := h.connectGate()
	answers := r.answers(append(r.about(domainDestroy, 1, listed), r.about(domainSuspend, 2, free)...), 2)
	h.record("calls before anything is opened", e2ehost.Answer{Stdout: answers[domainDestroy] + "\n" + answers[domainSuspend]}, listed)

	h.Doing = "all of it at once"
	h.race()
	h.Doing = "a flood of calls"
	h.flood()

	h.Doing = "metadata that is too large to be sent"
	big := "<x>" + strings.Repeat("y", 100_000) + "</x>"
	for i := range 45 {
		h.DirectOK("metadata", free.Name, "--live", "--uri", fmt.Sprint("urn:", i), "--key", "k", "--set", big)
	}
	h.record("metadata that is too large to be sent", h.Virsh("destroy", free.Name), free)
	for i := range 45 {
		h.VirshOK("metadata", free.Name, "--live", "--uri", fmt.Sprint("urn:", i), "--remove")
	}
	h.Records()
	h.record("and is made smaller", h.Virsh("destroy", free.Name), free)
}

// lastSteps returns the calls that end a migration, on both hosts. They are not decided, and a
// migration has not begun.
func lastSteps(g e2ehost.Guest) [][]byte {
	domain, _ := wire.AppendDomain(nil, g.Name, g.UUID)
	words := func(b []byte, numbers ...uint32) []byte {
		for _, n := range numbers {
			b = wire.AppendUint32(b, n)
		}
		return b
	}
	text := wire.AppendString
	r := raw{}
	destination := text(words(text(words(nil, 1), "destination_name"), 7), g.Name)
	return [][]byte{
		r.frame(218, 50, words(text(domain, ""), 0, 1, 0)),                      // CONFIRM3
		r.frame(307, 51, words(text(words(domain, 0), ""), 1, 0)),               // CONFIRM3_PARAMS
		r.frame(217, 52, words(text(text(nil, g.Name), ""), 0, 0, 0, 1, 1)),     // FINISH3
		r.frame(306, 53, words(text(destination, ""), 1, 1)),                    // FINISH3_PARAMS
		r.frame(109, 54, words(text(text(text(nil, g.Name), ""), ""), 0, 1, 1)), // FINISH2
		r.frame(63, 55, words(text(text(text(nil, g.Name), ""), ""), 0, 1)),     // FINISH
	}
}

func TestNoDetourEndsAProtectedGuest(t *testing.T) {
	const notBegun = "55 Requested operation is not valid: domain 'pg-primary-01' is not "
	want := map[string]expected{
		"it ends at a reset by its definition":    {1, byList, "running", e2ehost.Kept, []string{"pg-primary-01 stop veto protected_list"}},
		"it ends at a reset by QEMU's own option": {1, byList, "running", e2ehost.Kept, []string{"pg-primary-01 stop veto protected_list"}},
		"a boot that is forced":                   {1, byMark, "shut off (saved)", "", []string{"billing-01 delete veto protection_mark"}},
		"and one that is not":                     {0, "", "running (restored)", e2ehost.Kept, nil},
		"its definition is changed":               {0, "", "shut off", "", nil},
		"it is reverted to":                       {1, byMark, "shut off", "", []string{"billing-01 modify veto protection_mark", "billing-01 stop moot"}},
		"the mark":                                {0, "billing", "", "", nil},
		"the last steps of a migration, 218":      {0, notBegun, "running", "", nil},
		"the last steps of a migration, 307":      {0, notBegun, "running", "", nil},
		"the last steps of a migration, 217":      {0, notBegun, "running", "", nil},
		"the last steps of a migration, 306":      {0, notBegun, "running", "", nil},
		"the last steps of a migration, 109":      {0, notBegun, "running", "", nil},
		"the last steps of a migration, 63":       {0, "3 this function is not supported", "running", "", nil},
		"calls before anything is opened":         {0, "39 authentication required\n39 authentication required", "running", "", nil},
		"metadata that is too large to be sent":   {1, "its metadata, title or description cannot be read, and may hold a mark", "running", "", []string{"web-01 stop veto protection_mark"}},
		"all of it at once":                       {0, "map[]", "running", e2ehost.Kept, nil},
		"a flood of calls":                        {0, fmt.Sprint(floodClients*floodCalls, " answers"), "running", "", nil},
		"and is made smaller":                     {0, "", destroyed, "", []string{"web-01 stop allow"}},
	}
	for _, d := range detours {
		want[d.name] = d.want
	}
	compare(t, on(t, "attacks"), want)
}
