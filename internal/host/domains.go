package host

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// A Domain is a domain in a finding of doctor's.
type Domain struct {
	Name string `json:"name"`
	UUID string `json:"uuid"`
	PID  int    `json:"pid,omitempty"` // of its process; 0 if unknown
}

// HuskText returns the finding about a husk and its cure.
func (d Domain) HuskText() (what, cure string) {
	return fmt.Sprintf("%s (process %d) is paused since a migration that it was started to receive: probably it failed, and no guest is in there", d.Name, d.PID),
		"see whether the guest runs on the host that it came from; if it does, virsh destroy it here, with a ticket if it is protected; if not, virsh resume it"
}

// AutodestroyText returns the finding about a protected domain that ends with a client's
// connection, and its cure.
func (d Domain) AutodestroyText() (what, cure string) {
	return fmt.Sprintf("%s is protected, and ends when the connection closes of the client that started it with autodestroy", d.Name),
		"keep that client running until the domain may go, or shut it down and start it without autodestroy"
}

// maxHead bounds the bytes of a status file that are read. libvirt's own fields come before the
// texts of the guest's owner.
const maxHead = 64 << 10

var (
	pausedForMigration = regexp.MustCompile(`<domstatus [^>]*state='paused' reason='migration' pid='([0-9]+)'`)
	asynchronousJob    = regexp.MustCompile(`<job [^>]*async='([^']*)'`)
	firstUUID          = regexp.MustCompile(`<uuid>([0-9a-f-]{36})</uuid>`)
)

// Husks returns the domains that a failed incoming migration has probably left behind. They are
// paused for a migration, without a job, in a process that was started to receive one. A guest may
// be in such a process nevertheless, if it came by a migration and was about to leave.
func (h Host) Husks() []Domain {
	var husks []Domain
	files, _ := filepath.Glob(h.Path("/run/libvirt/qemu/*.xml")) // an error is about the pattern
	for _, file := range files {
		head := readHead(file)
		paused := pausedForMigration.FindSubmatch(head)
		if paused == nil {
			continue
		}
		if job := asynchronousJob.FindSubmatch(head); job != nil && string(job[1]) != "none" {
			continue
		}
		pid, err := strconv.Atoi(string(paused[1]))
		if err != nil || !h.isReceiver(pid) {
			continue
		}
		husk := Domain{Name: strings.TrimSuffix(filepath.Base(file), ".xml"), PID: pid}
		if uuid := firstUUID.FindSubmatch(head); uuid != nil {
			husk.UUID = string(uuid[1])
		}
		husks = append(husks, husk)
	}
	return husks
}

func readHead(file string) []byte {
	f, err := os.Open(file)
	if err != nil {
		return nil // a domain may end at any time
	}
	defer func() { _ = f.Close() }()
	head, _ := io.ReadAll(io.LimitReader(f, maxHead))
	return head
}

// isReceiver reports whether a process was started to receive a migration. If the root does not
// have a /proc, it uses the host's own.
func (h Host) isReceiver(pid int) bool {
	content := h.Proc(pid, "cmdline")
	if content == "" && !h.Exists("/proc") {
		content = Host{}.Proc(pid, "cmdline")
	}
	return strings.Contains(content, "\x00-incoming\x00")
}

// GateMetrics is the path of the file for the gate's metrics, as in the gate's unit.
const GateMetrics = "/run/stopguard/gate.prom"

// Autodestroyed returns the protected domains that end when a client's connection closes, from the
// gate's metrics. A client started them with autodestroy, and they were protected later. Without a
// gate's metrics, it returns nil and no error.
func (h Host) Autodestroyed() ([]Domain, error) {
	f, err := os.Open(h.Path(GateMetrics))
	if err != nil {
		if os.IsNotExist(err) {
			err = nil
		}
		return nil, err
	}
	defer func() { _ = f.Close() }()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(io.LimitReader(f, 16<<20))
	if err != nil {
		return nil, err
	}
	var domains []Domain
	for _, m := range families["stopguard_gate_autodestroy"].GetMetric() {
		if label(m, "protected") == "true" && m.GetGauge().GetValue() == 1 {
			domains = append(domains, Domain{Name: label(m, "domain"), UUID: label(m, "uuid")})
		}
	}
	return domains, nil
}

func label(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}
