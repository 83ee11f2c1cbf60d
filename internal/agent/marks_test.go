package agent

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stopguard/stopguard/internal/protection"
)

const markUUID = "16e14a01-2b11-40de-a128-75e3f4a5fe12"

// domain has a domain run: a process with its UUID among its arguments, and libvirt's files about
// it.
func (h host) domain(name, uuid string) (write func(metadata string)) {
	h.t.Helper()
	self, err := os.Executable()
	if err != nil {
		h.t.Fatal(err)
	}
	cmd := exec.Command(self, "-name", name, "-uuid", uuid)
	cmd.Env = []string{"AGENT_TEST_GUEST=1"}
	stdin, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { stdin.Close(); _ = cmd.Wait() })
	// Start returns while the kernel still sets the program up. Until it has, the command line is
	// empty, and the domain would count as gone.
	h.eventually("the guest runs", func() error {
		if line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", cmd.Process.Pid)); err != nil || !strings.Contains(string(line), uuid) {
			return fmt.Errorf("its command line is %q, %v", line, err)
		}
		return nil
	})
	return func(metadata string) {
		h.write("/run/libvirt/qemu/"+name+".pid", fmt.Sprintln(cmd.Process.Pid))
		h.write("/run/libvirt/qemu/"+name+".xml", fmt.Sprintf("<domstatus state='running' reason='booted' pid='%d'><domain type='kvm' id='7'>"+
			"<name>%s</name><uuid>%s</uuid><metadata>%s</metadata><memory unit='KiB'>1024</memory></domain></domstatus>", cmd.Process.Pid, name, uuid, metadata))
	}
}

func TestAMarkThatIsGoneIsCounted(t *testing.T) {
	t.Parallel()
	const mark = `<p:protection xmlns:p="urn:stopguard:protection:1" reason="r" until="2099-06-30"/>`
	const lapsed = `<p:protection xmlns:p="urn:stopguard:protection:1" reason="r" until="2001-06-30"/>`
	remembered := fmt.Sprintf(`{"marks": [{"name": "web-01", "uuid": %q, "message": "m", "until": "2099-06-30T00:00:00Z", "seen": "2026-11-22T00:00:00Z"}]}`, markUUID)
	for name, c := range map[string]struct {
		why           string
		before, after string
		file          string
		want          int
	}{
		"it was seen and is gone":         {"somebody removed it", mark, "", "", 1},
		"it is there":                     {"", mark, mark, "", 0},
		"it had lapsed":                   {"removing it changes nothing", lapsed, "", "", 0},
		"there never was one":             {"", "", "", "", 0},
		"a check had seen it":             {"before this agent started", "", "", remembered, 1},
		"it was removed by the tool":      {"which has a check forget it", mark, "", `{"marks": []}`, 0},
		"it is another domain's":          {"a clone's is inert", `<p:protection xmlns:p="urn:stopguard:protection:1" domain="22222222-2b11-40de-a128-75e3f4a5fe22"/>`, "", "", 0},
		"it is its own, in capitals":      {"as the rule reads it", `<p:protection xmlns:p="urn:stopguard:protection:1" domain="16E14A012B1140DEA12875E3F4A5FE12"/>`, "", "", 1},
		"it is for what is no UUID":       {"which is no other domain", `<p:protection xmlns:p="urn:stopguard:protection:1" domain="web-01"/>`, "", "", 1},
		"one that has lapsed is there":    {"in its place, and protects nothing", mark, lapsed, "", 1},
		"a second one holds":              {"whichever comes first", lapsed + mark, "", "", 1},
		"one that cannot be read is gone": {"it never lapses", `<p:protection xmlns:p="urn:stopguard:protection:1" until="soon"/>`, "", "", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := host{t, t.TempDir()}
			metadata := h.domain("web-01", markUUID)
			m := marks{root: h.root}
			metadata(c.before)
			if n, err := m.gone(); err != nil || c.file == "" && n != 0 {
				t.Fatal(n, err)
			}
			if c.file != "" {
				h.write(protection.MarksFile, c.file)
			}
			metadata(c.after)
			if n, err := m.gone(); err != nil || n != c.want {
				t.Errorf("%d, %v (%s)", n, err, c.why)
			}
		})
	}
}
