package hookproto

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The forms as regular expressions, independent of the implementation.
var (
	statusWord    = regexp.MustCompile(`^[a-z][a-z0-9 _-]{0,39}$`)
	statusDisk    = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,40}$`)
	statusMonitor = regexp.MustCompile(`^/[^\x00-\x1f\x7f]*/monitor\.sock$`)
	statusUUID    = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
)

func FuzzForms(f *testing.F) {
	for _, seed := range []string{
		"", "running", "a", "no state", "Running", "0", "-", "_", "a-b_c 9", strings.Repeat("a", 40), strings.Repeat("a", 41), "vda", "Vd_a-1", "é",
		"/monitor.sock", "//monitor.sock", "/var/x y/monitor.sock", "/a\n/monitor.sock", "/a\x7f/monitor.sock", "/\xff/monitor.sock", "/monitor.sock/monitor.sock", "x/monitor.sock",
		"d19e7151-4c02-4aa7-a443-59213be70aba", "D19E7151-4c02-4aa7-a443-59213be70abA", "d19e71514c024aa7a44359213be70aba", "d19e7151-4c02-4aa7-a443-59213be70aba-", "g19e7151-4c02-4aa7-a443-59213be70aba",
		"d19e7151-4c02-4aa7-a44-359213be70aba", "----", "running\n",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, form := range []struct {
			name   string
			is     func(string) bool
			syntax *regexp.Regexp
		}{{"word", isWord, statusWord}, {"disk", isDisk, statusDisk}, {"monitor", isMonitorPath, statusMonitor}, {"UUID", isUUID, statusUUID}} {
			if got, want := form.is(s), form.syntax.MatchString(s); got != want {
				t.Errorf("%q is a %s: %v, want %v", s, form.name, got, want)
			}
		}
	})
}

func parseWhole(data []byte) (statusFile, error) { return parseStatus(data, data) }

func TestStatusOfTheCaptures(t *testing.T) {
	base := Status{State: "running", Reason: "booted", Name: "st-running", UUID: uuid, ID: 3,
		Monitor: "/var/lib/libvirt/qemu/domain-3-st-running/monitor.sock"}
	backup := base
	backup.ID, backup.Monitor = 4, "/var/lib/libvirt/qemu/domain-4-st-running/monitor.sock"
	backup.Job, backup.BlockJobs = "backup", []BlockJob{{"backup", "vda"}}
	block := base
	block.Reason, block.BlockJobs = "unpaused", []BlockJob{{"copy", "vda"}}
	paused := base
	paused.State, paused.Reason = "paused", "user"
	for _, tt := range []struct {
		why, file string
		want      Status
	}{
		{"nothing special", "running", base},
		{"a backup is in the status file only", "backup-running", backup},
		{"a copy", "block-copy-running", block},
		{"paused", "paused-user", paused},
		{"off", "guest-powered-off-at-stop", Status{State: "shutdown", Reason: "unknown", Name: "st-poweroff", UUID: otherUUID, ID: 2,
			Monitor: "/var/lib/libvirt/qemu/domain-2-st-poweroff/monitor.sock"}},
		{"panicked", "panicked-at-stop", Status{State: "crashed", Reason: "panicked", Name: "st-panicked", UUID: "f321d790-722c-46d9-9303-68d2180e2afd", ID: 1,
			Monitor: "/var/lib/libvirt/qemu/domain-1-st-panicked/monitor.sock"}},
	} {
		t.Run(tt.why, func(t *testing.T) {
			got, err := parseWhole([]byte(capture(t, tt.file, 4711)))
			if err != nil || got.pid != 4711 {
				t.Fatal(got.pid, err)
			}
			if diff := cmp.Diff(tt.want, got.Status); diff != "" {
				t.Error(diff)
			}
			if strings.Contains(fmt.Sprintf("%+v", got.Status), "hunter2x") {
				t.Error("holds the password")
			}
		})
	}
}

func TestWhereTheDomainBeginsInAStatus(t *testing.T) {
	data := capture(t, "running", 4711)
	for why, file := range map[string]string{
		"as libvirt writes it": data,
		"blanks around it":     "\n " + data + " \n",
		"a comment before it":  strings.Replace(data, "<domain ", "<!-- here --><domain ", 1),
		"not plain":            strings.Replace(data, "<domstatus ", "<?a b?><domstatus ", 1),
	} {
		s, err := parseWhole([]byte(file))
		if domain := string(s.domain([]byte(file))); err != nil || !strings.HasPrefix(domain, "<domain type='qemu' id='3'>") || !strings.HasSuffix(domain, "</domain>") {
			t.Errorf("%s: %v, %.30q", why, err, domain)
		}
	}
}

func TestAStatusOfAnUnknownFormIsAnErrorWithoutItsText(t *testing.T) {
	const form = `<domstatus state='running' reason='booted' pid='1'>%s<domain type='kvm' id='4'><name>vm</name><uuid>` + uuid + `</uuid></domain></domstatus>`
	for _, tt := range []struct{ why, xml string }{
		{"a state that is none", strings.Replace(fmt.Sprintf(form, ""), "running", "S3cret!", 1)},
		{"a reason that is none", strings.Replace(fmt.Sprintf(form, ""), "booted", "S3cret!", 1)},
		{"a monitor elsewhere", fmt.Sprintf(form, `<monitor type='unix' path='S3cret!'/>`)},
		{"two monitors", fmt.Sprintf(form, `<monitor type='unix' path='/S3cret!/monitor.sock'/><monitor/>`)},
		{"a job that is none", fmt.Sprintf(form, `<job async='S3cret!'/>`)},
		{"a block job that is none", fmt.Sprintf(form, `<blockjobs><blockjob type='S3cret!'/></blockjobs>`)},
		{"a disk that is none", fmt.Sprintf(form, `<blockjobs><blockjob type='copy'><disk dst='S3cret!'/></blockjob></blockjobs>`)},
		{"a UUID that is none", strings.Replace(fmt.Sprintf(form, ""), uuid, "S3cret!", 1)},
		{"no pid", strings.Replace(fmt.Sprintf(form, "S3cret!"), "pid='1'", "", 1)},
		{"broken XML", fmt.Sprintf(form, "<S3cret!>")},
		{"two names", strings.Replace(fmt.Sprintf(form, ""), "<uuid>", "<name>S3cret!</name><uuid>", 1)},
		{"no UUID", strings.Replace(fmt.Sprintf(form, "S3cret!"), "<uuid>"+uuid+"</uuid>", "", 1)},
		{"no domain", `<domstatus state='running' pid='1'><name>vm</name><uuid>` + uuid + `</uuid></domain></domstatus>`},
		{"an end that is torn", strings.Replace(fmt.Sprintf(form, "S3cret!"), "</domain>", "</dom ain>", 1)},
		{"an entity", fmt.Sprintf(form, "&S3cret;")},
		{"no status", "<domain/>"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			got, err := parseWhole([]byte(tt.xml))
			if err == nil || strings.Contains(fmt.Sprint(err), "S3cret") {
				t.Errorf("%v", err)
			}
			if diff := cmp.Diff(Status{}, got.Status); diff != "" {
				t.Error(diff)
			}
		})
	}
	if _, err := parseWhole([]byte(fmt.Sprintf(form, ""))); err != nil {
		t.Errorf("the form itself: %v", err)
	}
	tcp, err := parseWhole([]byte(fmt.Sprintf(form, `<monitor type='pty' path='/dev/pts/1'/>`)))
	if err != nil || tcp.Monitor != "" {
		t.Errorf("a monitor that is no socket: %q, %v", tcp.Monitor, err)
	}
}

func FuzzStatus(f *testing.F) {
	for _, file := range []string{"running", "backup-running", "block-copy-running", "panicked-at-stop", "guest-powered-off-at-stop"} {
		data := capture(f, file, 4711)
		f.Add([]byte(data[:strings.Index(data, "<qemuCaps>")] + "<qemuCaps>\n<flag name='a'/></qemuCaps>" + data[strings.Index(data, "</qemuCaps>")+len("</qemuCaps>"):])) // shorter, and so faster
	}
	f.Add([]byte(`<domstatus state='paused' reason='migration' pid='1'><job async='migration in'/><domain id='1'><name>x</name></domain></domstatus>`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := parseWhole(data)
		if whole, e := parseElements(xml.NewDecoder(bytes.NewReader(data))); e == nil && domainEnd(data) >= 0 && (err != nil || cmp.Diff(whole, s, cmp.AllowUnexported(statusFile{})) != "") {
			t.Errorf("%v: %+v, but with the list of what QEMU can do %+v", err, s, whole)
		}
		if err != nil {
			if s.Status.State != "" || len(s.Status.BlockJobs) > 0 || s.pid != 0 {
				t.Errorf("%+v beside %v", s.Status, err)
			}
			if text := err.Error(); len(text) > 60 || strings.ContainsAny(text, "'\"<>") {
				t.Errorf("the error may quote the file: %q", text)
			}
			return
		}
		// The captures hold a marked secret in every place where libvirt writes one. It does not
		// match any of the known forms. The name is compared by the caller.
		for _, v := range []string{s.State, s.Reason, s.Job} {
			if v != "" && !statusWord.MatchString(v) {
				t.Errorf("%q", v)
			}
		}
		for _, j := range s.BlockJobs {
			if j.Type != "" && !statusWord.MatchString(j.Type) || j.Disk != "" && !statusDisk.MatchString(j.Disk) {
				t.Errorf("%q", j)
			}
		}
		if s.Monitor != "" && !strings.HasSuffix(s.Monitor, "/monitor.sock") || s.UUID != "" && !statusUUID.MatchString(s.UUID) {
			t.Errorf("%q %q", s.Monitor, s.UUID)
		}
		const secret = "hunter2x"
		planted := strings.ReplaceAll(string(data), secret, "")
		if !strings.Contains(planted, "</domain>") || strings.Contains(planted, "hunter") {
			return
		}
		planted = strings.Replace(planted, "</domain>", "<graphics passwd='"+secret+"'/><secret>"+secret+"</secret></domain>", 1)
		if s, err := parseWhole([]byte(planted)); err == nil && strings.Contains(fmt.Sprintf("%+v", s.Status), secret) {
			t.Errorf("%+v", s.Status)
		}
	})
}

func TestWhatQEMUCanDoIsPassedOver(t *testing.T) {
	const file = "<!-- x -->\n<domstatus state='running' pid='7'>\n  <qemuCaps>\n    <flag name='%s'/>\n  </qemuCaps>\n<domain id='3'><name>a</name><uuid>" + uuid + "</uuid></domain>\n</domstatus>"
	for _, tt := range []struct {
		why, file string
		shorter   bool
	}{
		{"as libvirt writes it", fmt.Sprintf(file, "virtio-blk.x_1"), true},
		{"a name that libvirt has none of", fmt.Sprintf(file, "a'/><monitor x='"), false},
		{"in the domain, where its owner writes", strings.Replace(fmt.Sprintf(file, "a"), "<domstatus", "<domstatus><domain/", 1), false},
		{"in a comment", strings.Replace(fmt.Sprintf(file, "a"), "x -->", "x ", 1), false},
		{"not closed", strings.Replace(fmt.Sprintf(file, "a"), "</qemuCaps>", "", 1), false},
	} {
		if got := len(withoutCapabilities([]byte(tt.file))) < len(tt.file); got != tt.shorter {
			t.Errorf("%s: shorter is %v", tt.why, got)
		}
	}
	for _, name := range []string{"running", "backup-running", "block-copy-running", "paused-user"} {
		data := []byte(capture(t, name, 4711))
		want, err := parseElements(xml.NewDecoder(bytes.NewReader(data)))
		if err != nil {
			t.Fatal(err)
		}
		got, err := parseWhole(data)
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(statusFile{})); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
		if len(withoutCapabilities(data)) == len(data) {
			t.Errorf("%s is not as it is passed over", name)
		}
	}
}
