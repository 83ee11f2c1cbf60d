package policytest_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/internal/testhost"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/policytest"
)

// TestPolicy is what a site's own test is: it runs in a process of its own, in a folder that one of
// the tests below made.
func TestPolicy(t *testing.T) {
	config, ok := os.LookupEnv("STOPGUARD_TEST_CONFIG")
	if !ok {
		t.Skip("is run by the tests below")
	}
	var c policytest.Config
	if err := json.Unmarshal([]byte(config), &c); err != nil {
		t.Fatal(err)
	}
	policytest.Run(t, c)
}

// A site is what its folder holds, by path.
type site map[string]string

// runKit runs the kit on a site as go test would, and gives what it printed.
func runKit(t *testing.T, files site, c policytest.Config, env ...string) (folder, output string, passed bool) {
	t.Helper()
	folder = t.TempDir()
	for name, content := range files {
		testhost.Put(t, folder, name, content)
	}
	config, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(os.Args[0], "-test.run=^TestPolicy$", "-test.v")
	command.Dir = folder
	command.Env = append(append(os.Environ(), "STOPGUARD_TEST_CONFIG="+string(config)), env...)
	var buf bytes.Buffer
	command.Stdout, command.Stderr = &buf, &buf
	err = command.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return folder, buf.String(), err == nil
}

const (
	rule = `package stopguard.rules.gpu

import data.stopguard.text

veto contains message if {
	input.operation == "stop"
	some device in input.domain.hostdevs
	device.source in data.site.gpu.devices
	message := sprintf("%s holds a GPU", [text.quoted(input.domain.name)])
}
`
	ruleTest = `package stopguard.rules.gpu_test

import data.stopguard.rules.gpu

request(source) := {"operation": "stop", "domain": {"name": "ml-01", "hostdevs": [{"source": source}]}}

test_a_gpu_vetoes if gpu.veto == {"ml-01 holds a GPU"} with input as request("0000:3b:00.0")

test_another_device_may_stop if gpu.veto == set() with input as request("0000:3c:00.0")
`
	settings = "site:\n  gpu:\n    devices: [\"0000:3b:00.0\"]\n"
	plain    = `<domain type='kvm'>
  <name>web-01</name>
  <uuid>16e14a01-2b11-40de-a128-75e3f4a5fe12</uuid>
</domain>
`
	withGPU = `<domain type='kvm'>
  <name>ml-01</name>
  <uuid>26e14a01-2b11-40de-a128-75e3f4a5fe12</uuid>
  <devices>
    <hostdev mode='subsystem' type='pci' managed='yes'>
      <source>
        <address domain='0x0000' bus='0x3b' slot='0x00' function='0x0'/>
      </source>
    </hostdev>
  </devices>
</domain>
`
)

// good is a site with which nothing is wrong.
func good() site {
	return site{
		"policy/gpu.rego":             rule,
		"policy/gpu_test.rego":        ruleTest,
		"policy/data.yaml":            settings,
		"policy/gpu.schema.json":      `{"type": "object", "properties": {"devices": {"type": "array", "items": {"type": "string"}}}}`,
		"policy/.manifest":            `{"revision": "r1"}`,
		"testdata/stoppable/web.xml":  plain,
		"testdata/cases/gpu.txtar":    "It has one.\n-- domain.xml --\n" + withGPU + "-- want --\nveto\ngpu: ml-01 holds a GPU\n",
		"testdata/cases/no-gpu.txtar": "It has none.\n-- domain.xml --\n" + plain + "-- want --\nallow\n",
	}
}

// with returns the site with files of pairs of path and content; content "" removes the file.
func (s site) with(pairs ...string) site {
	s = maps.Clone(s)
	for i := 0; i < len(pairs); i += 2 {
		if s[pairs[i]] = pairs[i+1]; pairs[i+1] == "" {
			delete(s, pairs[i])
		}
	}
	return s
}

// Otherwise its author would correct one, run the kit, and meet the next.
func TestAllLoadErrorsAreReportedAtOnce(t *testing.T) {
	_, output, passed := runKit(t, good().with(
		"policy/gpu.rego", strings.Replace(rule, "device.source in", "device.sorce in", 1),
		"policy/web.rego", "package stopguard.rules.web\n\nveto contains \"web\" if input.domain.nmae == \"web\"\n",
		"policy/data.yaml", settings+"  monitor: [gup]\n",
	), policytest.Config{})
	if passed {
		t.Error("it passes")
	}
	for _, want := range []string{"policy/gpu.rego:8: there is no device.sorce", "policy/web.rego:3: there is no input.domain.nmae", `policy/data.yaml: data.site.monitor names "gup"`} {
		if !strings.Contains(output, want) {
			t.Errorf("the kit does not say %q:\n%s", want, output)
		}
	}
}

func TestAGoodPolicyPasses(t *testing.T) {
	_, output, passed := runKit(t, good(), policytest.Config{})
	if !passed {
		t.Fatal(output)
	}
	for _, want := range []string{
		"TestPolicy/load",
		"TestPolicy/format",
		"TestPolicy/rego/stopguard.rules.gpu_test.test_a_gpu_vetoes",
		"TestPolicy/rules/gpu",
		"TestPolicy/stoppable/web",
		"TestPolicy/cases/no-gpu",
	} {
		if !strings.Contains(output, "--- PASS: "+want) {
			t.Errorf("%s did not run:\n%s", want, output)
		}
	}
}

func TestWhatElseMayPass(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the kit in processes of its own; TestWhatIsWrongFailsAndSaysWhatToDo does so, too")
	}
	window := "site:\n  calendar:\n    windows:\n      - {start: \"22:00\", end: \"23:00\"}\n"
	allowed := "Why.\n-- domain.xml --\n" + plain
	tests := []struct {
		name, why string
		files     site
		config    policytest.Config
	}{
		{"settings alone", "a site may use the library's rules only",
			site{"policy/data.yaml": "site:\n  calendar:\n    freezes: []\n", "testdata/stoppable/web.xml": plain}, policytest.Config{}},
		{"no folder of cases", "they are not needed",
			good().with("testdata/cases/gpu.txtar", "", "testdata/cases/no-gpu.txtar", ""), policytest.Config{}},
		{"other folders", "",
			site{"p/gpu.rego": rule, "p/gpu_test.rego": ruleTest, "p/data.yaml": settings, "s/web.xml": plain, "c/x.txtar": allowed + "-- want --\nallow\n"},
			policytest.Config{Policy: "p", Cases: "c", Stoppable: "s"}},
		{"a time within a window", "at the default time it would be vetoed",
			site{"policy/data.yaml": window, "testdata/stoppable/web.xml": plain}, policytest.Config{Time: time.Date(2026, 1, 5, 22, 30, 0, 0, time.UTC)}},
		{"a case with another time", "",
			good().with("policy/data.yaml", settings, "testdata/cases/t.txtar",
				allowed+"-- settings.yaml --\ngpu: {devices: []}\ncalendar:\n  windows:\n    - {start: \"22:00\", end: \"23:00\"}\n-- time --\n2026-01-05T23:30:00+01:00\n-- want --\nallow\n"), policytest.Config{}},
		{"a case with settings in JSON, and a rule that is only monitored", "",
			good().with("testdata/cases/t.txtar",
				"Why.\n-- domain.xml --\n"+withGPU+"-- settings.json --\n{\"gpu\": {\"devices\": [\"0000:3b:00.0\"]}, \"monitor\": [\"gpu\"]}\n-- want --\nallow\nmonitored gpu: ml-01 holds a GPU\n"), policytest.Config{}},
		{"a case whose domain a cluster manages", "",
			good().with("testdata/cases/t.txtar",
				"Why.\n-- domain.xml --\n"+withGPU+"-- settings.json --\n{\"gpu\": {\"devices\": [\"0000:3b:00.0\"]}, \"cluster_managed\": [\"ml-*\"]}\n-- want --\nallow\nmonitored gpu: ml-01 holds a GPU\nunenforced: cluster_managed\n"), policytest.Config{}},
		{"a case with a list", "",
			good().with("testdata/cases/t.txtar",
				allowed+"-- list --\nweb-*\n-- want --\nveto\nprotected_list: listed in /etc/libvirt/protected-domains as web-*; take it off the list to stop it\n"), policytest.Config{}},
		{"a case with a state", "",
			good().with("testdata/cases/t.txtar",
				"Why.\n-- domain.xml --\n"+withGPU+"-- settings.yaml --\ngpu: {devices: []}\nblock_job: {}\n-- state --\nstate: paused\nreason: ioerror\njob: backup\n-- want --\nveto\nblock_job: backup job; wait until it is done, or end it with virsh domjobabort; the guest is paused (ioerror)\n"), policytest.Config{}},
		{"a case with other domains on the host", "the domain itself is there, too",
			good().with("testdata/cases/t.txtar",
				allowed+"-- settings.yaml --\ngpu: {devices: []}\nmin_running:\n  groups:\n    - {name: web, min: 1, members: [\"web-*\"]}\n-- host --\nname: kvm-07\ndomains:\n  - name: web-02\n    uuid: 36e14a01-2b11-40de-a128-75e3f4a5fe12\n    metadata: <x xmlns='urn:x'/>\n-- want --\nallow\n"), policytest.Config{}},
		{"a case with other domains that do not run", "",
			good().with("testdata/cases/t.txtar",
				allowed+"-- settings.yaml --\ngpu: {devices: []}\nmin_running:\n  groups:\n    - {name: web, min: 1, members: [\"web-*\"]}\n-- host --\ndomains:\n  - {name: web-02, uuid: 36e14a01-2b11-40de-a128-75e3f4a5fe12, state: paused}\n-- want --\nveto\nmin_running: group web needs 1 running on this host, and stopping this one leaves 0; start another first\n"), policytest.Config{}},
		{"a case with other hosts", "a fleet is counted by its agents",
			good().with("testdata/cases/t.txtar",
				allowed+"-- settings.yaml --\ngpu: {devices: []}\nmin_running:\n  groups:\n    - {name: web, scope: fleet, min: 2, members: [\"web-*\"]}\n-- fleet --\ngroups:\n  - name: web\n    members:\n      - {name: web-02, uuid: 36e14a01-2b11-40de-a128-75e3f4a5fe12, host: kvm-02}\n      - {name: web-03, uuid: 46e14a01-2b11-40de-a128-75e3f4a5fe12, host: kvm-03, reserved: true}\n-- want --\nveto\nmin_running: group web needs 2 running in the fleet, and stopping this one leaves 1 (web-02 on kvm-02); start another first\n"), policytest.Config{}},
		{"tests with names that are put together", "one rule of several tests",
			good().with("policy/gpu_test.rego", ruleTest+"\ntest_others[name] if {\n\tsome name, source in {\"usb\": \"1:2\", \"none\": \"\"}\n\tgpu.veto == set() with input as request(source)\n}\n"), policytest.Config{}},
		{"a case with another operation, who asks and how", "a gate knows them",
			good().with(
				"policy/who.rego", "package stopguard.rules.who\n\nveto contains message if {\n\tinput.operation in {\"stop\", \"reset\"}\n\tnot \"dba\" in input.caller.groups\n\tmessage := sprintf(\"%s by %s (%d) with %v to %s\", [input.request.procedure, input.caller.user, input.caller.login_uid, input.request.flags, input.request.destination])\n}\n",
				"policy/who_test.rego", "package stopguard.rules.who_test\n\nimport data.stopguard.rules.who\n\nrequest(groups) := {\"operation\": \"stop\", \"caller\": {\"groups\": groups, \"user\": \"u\", \"login_uid\": 1}, \"request\": {\"procedure\": \"p\", \"flags\": [], \"destination\": \"d\"}}\n\ntest_others_veto if count(who.veto) == 1 with input as request([])\n\ntest_a_dba_may_stop if who.veto == set() with input as request([\"dba\"])\n",
				"testdata/stoppable/web.xml", "",
				"testdata/cases/gpu.txtar", "", "testdata/cases/no-gpu.txtar", "",
				"testdata/cases/alice.txtar", allowed+"-- operation --\nreset\n-- request --\nprocedure: domain_reset\nflags: [now]\ncommand: x\ndestination: y\n-- caller --\n{uid: 1000, user: alice, gid: 1000, groups: [libvirt], pid: 7, read_only: true}\n-- want --\nveto\nwho: domain_reset by alice (-1) with [\"now\"] to y\n",
				"testdata/cases/dora.txtar", allowed+"-- operation --\nreset\n-- caller --\ngroups: [dba]\n-- want --\nallow\n",
				"testdata/cases/move.txtar", allowed+"-- operation --\nmove\n-- want --\nallow\n"), policytest.Config{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, output, passed := runKit(t, tt.files, tt.config); !passed {
				t.Error(output)
			}
		})
	}
}

func TestWhatIsWrongFailsAndSaysWhatToDo(t *testing.T) {
	allowed := "Why.\n-- domain.xml --\n" + plain
	tests := []struct {
		name, why string
		files     site
		config    policytest.Config
		want      []string // in the output
	}{
		{"no policy", "the folder is named otherwise", site{"polisy/gpu.rego": rule}, policytest.Config{},
			[]string{"TestPolicy/load", "policy: there is no such folder", "policytest.Config"}},
		{"an empty policy", "nothing was tested", site{"policy/README.md": "x"}, policytest.Config{},
			[]string{"policy: nothing was tested", "testdata/cases"}},
		{"a setting of another shape", "the rule would be undefined",
			good().with("policy/data.yaml", "site:\n  gpu:\n    devices: \"0000:3b:00.0\"\n"), policytest.Config{},
			[]string{"TestPolicy/load", "policy/data.yaml", "data.site.gpu.devices", "; "}},
		{"a schema of no rule", "it checks nothing", good().with("policy/cpu.schema.json", "{}"), policytest.Config{},
			[]string{"TestPolicy/load", "policy/cpu.schema.json", "no rule cpu"}},
		{"no tests", "", good().with("policy/gpu_test.rego", ""), policytest.Config{},
			[]string{"TestPolicy/rego", "policy: no Rego test ran", "policy/gpu_test.rego"}},
		{"a file of tests without a test", "their names do not begin with test_", good().with("policy/gpu_test.rego", strings.ReplaceAll(ruleTest, "test_a", "a")), policytest.Config{},
			[]string{"no Rego test ran"}},
		{"a test that fails", "", good().with("policy/gpu_test.rego", strings.Replace(ruleTest, "3c:00.0", "3b:00.0", 1)), policytest.Config{},
			[]string{"policy/gpu_test.rego:9: test_another_device_may_stop fails", "gpu.veto == set()", "correct the test or the rule"}},
		{"a test that fails shows what it found", "the author would have to print it", good().with("policy/gpu_test.rego", strings.Replace(ruleTest, "ml-01 holds", "ml-02 holds", 1)), policytest.Config{},
			[]string{"policy/gpu_test.rego:7: test_a_gpu_vetoes fails", `for the left side is {"ml-01 holds a GPU"}; correct`}},
		{"a test that counts another number", "", good().with("policy/gpu_test.rego", ruleTest+"\ntest_b if {\n\tcount(gpu.veto) == 2 with input as request(\"0000:3b:00.0\")\n}\n"), policytest.Config{},
			[]string{"test_b fails", "for the left side is 1; correct"}},
		{"a test without an input", "every rule passes there, and on no host", good().with("policy/gpu_test.rego", strings.Replace(ruleTest, ` with input as request("0000:3c:00.0")`, "", 1)), policytest.Config{},
			[]string{"TestPolicy/rego/stopguard.rules.gpu_test.test_another_device_may_stop", "policy/gpu_test.rego:9: test_another_device_may_stop asks rule gpu without an input", "write: with input as"}},
		{"a test with an input that is no object", "", good().with("policy/gpu_test.rego", strings.Replace(ruleTest, `request("0000:3c:00.0")`, `"ml-01"`, 1)), policytest.Config{},
			[]string{"test_another_device_may_stop asks rule gpu without an input"}},
		{"a test whose input has a misspelt field", "the rule would not see it", good().with("policy/gpu_test.rego", strings.Replace(ruleTest, `[{"source": source}]`, `[{"source": source, "tpye": "pci"}]`, 1)), policytest.Config{},
			[]string{"test_a_gpu_vetoes asks rule gpu with an input that no host has: input.domain.hostdevs[] has a field \"tpye\"", "test_another_device_may_stop asks rule gpu"}},
		{"a test whose input has an operation that is none", "the rule passes it", good().with("policy/gpu_test.rego", strings.Replace(ruleTest, `with input as request("0000:3c:00.0")`, `with input as object.union(request("0000:3b:00.0"), {"operation": "destroy"})`, 1)), policytest.Config{},
			[]string{"test_another_device_may_stop asks rule gpu with an input that no host has", "destroy"}},
		{"a test whose input lacks what the rule reads", "the rule is undefined, and seems to pass", good().with("policy/gpu_test.rego", strings.Replace(ruleTest, `with input as request("0000:3c:00.0")`, `with input as {"operation": "stop", "domain": {}}`, 1)), policytest.Config{},
			[]string{"test_another_device_may_stop asks rule gpu with an input that lacks input.domain.hostdevs, input.domain.name, which the rule reads; add it"}},
		{"one of several tests that fails", "", good().with("policy/gpu_test.rego", ruleTest+"\ntest_others[name] if {\n\tsome name, source in {\"usb\": \"1:2\", \"gpu\": \"0000:3b:00.0\"}\n\tgpu.veto == set() with input as request(source)\n}\n"), policytest.Config{},
			[]string{"policy/gpu_test.rego:11", "test_others fails for gpu"}},
		{"a test in which a built-in fails", "on a host the rule would veto as failed",
			good().with("policy/gpu_test.rego", ruleTest+"\ntest_c if not regex.match(\"[\", \"x\")\n"), policytest.Config{},
			[]string{"policy/gpu_test.rego:11", "test_c ends in an error"}},
		{"a test that cannot be compiled", "", good().with("policy/gpu_test.rego", strings.Replace(ruleTest, "set()", "nosuch()", 1)), policytest.Config{},
			[]string{"policy/gpu_test.rego:9", "nosuch", "cannot be compiled"}},
		{"a rule that is badly formatted", "", good().with("policy/gpu.rego", strings.Replace(rule, "\tsome", "    some", 1)), policytest.Config{},
			[]string{"TestPolicy/format", "policy/gpu.rego:7", "go run github.com/open-policy-agent/opa@v", "fmt -w policy"}},
		{"a test that is badly formatted", "", good().with("policy/gpu_test.rego", ruleTest+"\n\n"), policytest.Config{},
			[]string{"TestPolicy/format", "policy/gpu_test.rego:"}},
		{"a rule that no test sees veto", "it might never do", good().with("policy/gpu_test.rego", strings.Replace(ruleTest, "test_a_gpu", "a_gpu", 1)), policytest.Config{},
			[]string{"TestPolicy/rules/gpu", "policy/gpu.rego: no test has rule gpu veto", "gpu.veto == {"}},
		{"a rule that no test sees let pass", "it might veto everything", good().with("policy/gpu_test.rego", strings.Replace(ruleTest, "test_another", "another", 1)), policytest.Config{},
			[]string{"TestPolicy/rules/gpu", "policy/gpu.rego: no test has rule gpu let a domain pass", "gpu.veto == set()"}},
		{"a rule whose tests do not look", "they would pass with any rule", good().with("policy/gpu_test.rego", "package stopguard.rules.gpu_test\n\nimport data.stopguard.rules.gpu\n\ntest_it if count(gpu.veto) >= 0\n"), policytest.Config{},
			[]string{"no test has rule gpu veto", "no test has rule gpu let a domain pass"}},
		{"a second rule without tests", "those of the first do not count",
			good().with("policy/cpu.rego", strings.ReplaceAll(rule, "package stopguard.rules.gpu", "package stopguard.rules.cpu")), policytest.Config{},
			[]string{"TestPolicy/rules/cpu", "no test has rule cpu veto", "no test has rule cpu let a domain pass"}},
		{"a stoppable domain that is vetoed", "", good().with("testdata/stoppable/ml.xml", withGPU), policytest.Config{},
			[]string{"TestPolicy/stoppable/ml", "testdata/stoppable/ml.xml: must be stoppable, but is vetoed by gpu: ml-01 holds a GPU", "narrow the rule"}},
		{"a stoppable domain that is no XML", "", good().with("testdata/stoppable/x.xml", "<domain>"), policytest.Config{},
			[]string{"testdata/stoppable/x.xml: "}},
		{"a stoppable domain with another ending", "it would not be tested", good().with("testdata/stoppable/x.txt", plain), policytest.Config{},
			[]string{"testdata/stoppable/x.txt: is no .xml file"}},
		{"a folder of stoppable domains that is named and missing", "a typing error", good(), policytest.Config{Stoppable: "testdata/stopable"},
			[]string{"testdata/stopable: ", "make the folder"}},
		{"a folder of cases that is named and missing", "likewise", good(), policytest.Config{Cases: "testdata/case"},
			[]string{"testdata/case: ", "make the folder"}},
		{"a case that is decided otherwise", "", good().with("testdata/cases/x.txtar", allowed+"-- want --\nveto\ngpu: x\n"), policytest.Config{},
			[]string{"TestPolicy/cases/x", "testdata/cases/x.txtar: is decided otherwise", "wanted:\n        \tveto\n        \tgpu: x\n        decided:\n        \tallow", "POLICYTEST_UPDATE=1 go test"}},
		{"a case without a want", "", good().with("testdata/cases/x.txtar", allowed), policytest.Config{},
			[]string{"testdata/cases/x.txtar: says nothing of what it wants"}},
		{"a case that does not say why", "", good().with("testdata/cases/x.txtar", "-- domain.xml --\n"+plain+"-- want --\nallow\n"), policytest.Config{},
			[]string{"testdata/cases/x.txtar: does not say why"}},
		{"a case without a domain", "", good().with("testdata/cases/x.txtar", "Why.\n-- want --\nallow\n"), policytest.Config{},
			[]string{"testdata/cases/x.txtar: has no domain.xml"}},
		{"a case with a misspelt part", "it would mean nothing", good().with("testdata/cases/x.txtar", allowed+"-- setings.yaml --\n{}\n-- want --\nallow\n"), policytest.Config{},
			[]string{"testdata/cases/x.txtar: holds setings.yaml, which means nothing"}},
		{"a case with a part twice", "", good().with("testdata/cases/x.txtar", allowed+"-- want --\nveto\n-- want --\nallow\n"), policytest.Config{},
			[]string{"testdata/cases/x.txtar: holds want twice"}},
		{"a case with settings twice", "", good().with("testdata/cases/x.txtar", allowed+"-- settings.json --\n{}\n-- settings.yaml --\n{}\n-- want --\nallow\n"), policytest.Config{},
			[]string{"testdata/cases/x.txtar: holds settings twice"}},
		{"a case with a misspelt setting", "", good().with("testdata/cases/x.txtar", allowed+"-- settings.yaml --\ngpus: {}\ngpu: {devices: []}\n-- want --\nallow\n"), policytest.Config{},
			[]string{"testdata/cases/x.txtar", "data.site.gpus belongs to no loaded rule"}},
		{"a case with a time that is none", "", good().with("testdata/cases/x.txtar", allowed+"-- time --\nnoon\n-- want --\nallow\n"), policytest.Config{},
			[]string{"testdata/cases/x.txtar: time: "}},
		{"a case with a misspelt state", "", good().with("testdata/cases/x.txtar", allowed+"-- state --\nstat: paused\n-- want --\nallow\n"), policytest.Config{},
			[]string{"testdata/cases/x.txtar: state: ", "stat"}},
		{"a case with a host of another shape", "", good().with("testdata/cases/x.txtar", allowed+"-- host --\ndomains: {}\n-- want --\nallow\n"), policytest.Config{},
			[]string{"testdata/cases/x.txtar: host: "}},
		{"a case with a fleet of another shape", "", good().with("testdata/cases/x.txtar", allowed+"-- fleet --\ngroups: {}\n-- want --\nallow\n"), policytest.Config{},
			[]string{"testdata/cases/x.txtar: fleet: "}},
		{"a case with a nameless domain on the host", "", good().with("testdata/cases/x.txtar", allowed+"-- host --\ndomains: [{name: x}]\n-- want --\nallow\n"), policytest.Config{},
			[]string{"testdata/cases/x.txtar: host: ", "a uuid"}},
		{"a case with metadata that is no XML", "", good().with("testdata/cases/x.txtar", allowed+"-- host --\ndomains: [{name: x, uuid: y, metadata: <}]\n-- want --\nallow\n"), policytest.Config{},
			[]string{"testdata/cases/x.txtar: host: ", "metadata"}},
		{"a case with an operation that is none", "no rule would answer for it", good().with("testdata/cases/x.txtar", allowed+"-- operation --\ndestroy\n-- want --\nallow\n"), policytest.Config{},
			[]string{`testdata/cases/x.txtar: operation: "destroy" is none; it is one of stop, delete, pause, reset, move, modify`}},
		{"a case with a misspelt request", "", good().with("testdata/cases/x.txtar", allowed+"-- request --\nproc: x\n-- want --\nallow\n"), policytest.Config{},
			[]string{"testdata/cases/x.txtar: request: ", "proc", "procedure, flags"}},
		{"a case with a caller of another shape", "", good().with("testdata/cases/x.txtar", allowed+"-- caller --\ngroups: dba\n-- want --\nallow\n"), policytest.Config{},
			[]string{"testdata/cases/x.txtar: caller: ", "it has uid, login_uid"}},
		{"a case with a list that is none", "", good().with("testdata/cases/x.txtar", allowed+"-- list --\nweb-[\n-- want --\nallow\n"), policytest.Config{},
			[]string{"testdata/cases/x.txtar: list"}},
	}
	for i, tt := range tests {
		// Each is a process that compiles the whole library. A short run has every fourth.
		if testing.Short() && i%4 != 0 {
			continue
		}
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, output, passed := runKit(t, tt.files, tt.config)
			if passed {
				t.Fatalf("passes:\n%s", output)
			}
			for _, want := range append(tt.want, "--- FAIL: TestPolicy") {
				if !strings.Contains(output, want) {
					t.Errorf("does not say %q:\n%s", want, output)
				}
			}
		})
	}
}

// Each way in which Rego says nothing and a policy would allow fails the kit as it fails a host.
func TestEverySlipThatWouldAllowFails(t *testing.T) {
	head := "package stopguard.rules.freeze\n\n"
	goodRule := head + "veto contains \"freeze\" if input.domain.name == \"x\"\n"
	tests := []struct {
		name, why string
		files     site
		want      []string
	}{
		{"veto if", "it would be skipped where the sets are joined", site{"policy/freeze.rego": head + "veto if input.operation == \"stop\"\n"},
			[]string{"policy/freeze.rego:3", "no set of reasons"}},
		{"a package too deep", "it would never be asked", site{"policy/freeze.rego": "package stopguard.rules.site.freeze\n\nveto contains \"x\"\n"},
			[]string{"policy/freeze.rego:1", "read by nothing"}},
		{"a misspelt field", "undefined, so it never fires", site{"policy/freeze.rego": head + "veto contains \"x\" if input.domain.nmae == \"x\"\n"},
			[]string{"policy/freeze.rego:3", "nmae"}},
		{"a built-in that fails", "undefined by default; on a host it vetoes", site{
			"policy/freeze.rego":         head + "veto contains \"x\" if regex.match(\"[\", input.domain.name)\n",
			"policy/freeze_test.rego":    "package stopguard.rules.freeze_test\n\nimport data.stopguard.rules.freeze\n\ntest_x if freeze.veto == set() with input.domain.name as \"x\"\n",
			"testdata/stoppable/web.xml": plain,
		}, []string{"policy/freeze_test.rego:5", "test_x ends in an error", "testdata/stoppable/web.xml", "rule failed"}},
		{"a package of the library", "a helper that is used under not could be flipped", site{"policy/freeze.rego": "package stopguard.rules.protection_mark\n\n_of_another_domain(_) := true\n"},
			[]string{"policy/freeze.rego:1", "is the library's"}},
		{"a rule without veto", "its entry would be missing", site{"policy/freeze.rego": head + "deny contains \"x\"\n"},
			[]string{"policy/freeze.rego:1", "no veto"}},
		{"a reason of the wrong shape", "counted as nothing; on a host it vetoes", site{
			"policy/freeze.rego":         head + "veto contains 7 if input.domain.name == \"web-01\"\n",
			"policy/freeze_test.rego":    "package stopguard.rules.freeze_test\n\nimport data.stopguard.rules.freeze\n\ntest_x if freeze.veto == {7} with input.domain.name as \"web-01\"\n",
			"testdata/stoppable/web.xml": plain,
		}, []string{"testdata/stoppable/web.xml", "vetoed by freeze", "wrong shape"}},
		{"a set below another name", "nobody would read it", site{"policy/freeze.rego": head + "sub.veto contains \"x\"\n"},
			[]string{"policy/freeze.rego:3", "no set of reasons"}},
		{"a message that reads a setting that is not there", "the veto itself would be undefined", site{"policy/freeze.rego": head + "veto contains data.site.freeze.message\n"},
			[]string{"policy/freeze.rego:3", "data.site.freeze.message"}},
		{"an input schema of its own", "it would switch the check of fields off", site{"policy/freeze.rego": "# METADATA\n# schemas:\n#   - input: {type: object}\n" + goodRule},
			[]string{"policy/freeze.rego:1", "schema for input"}},
		{"a head that reaches into ours", "it would compile into our rule", site{"policy/freeze.rego": "package stopguard.rules\n\nprotected_list.veto contains \"x\"\n"},
			[]string{"policy/freeze.rego:1", "read by nothing"}},
		{"a veto in a package of tests", "it would be found as a rule", site{"policy/freeze.rego": "package stopguard.rules.freeze_test\n\nveto contains \"x\"\n"},
			[]string{"policy/freeze.rego:1", "holds tests"}},
		{"a rule in a file of tests", "it would not be loaded", site{"policy/freeze_test.rego": goodRule},
			[]string{"policy/freeze_test.rego:1", "would not be loaded"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, output, passed := runKit(t, tt.files, policytest.Config{})
			if passed {
				t.Fatalf("passes:\n%s", output)
			}
			for _, want := range tt.want {
				if !strings.Contains(output, want) {
					t.Errorf("does not say %q:\n%s", want, output)
				}
			}
		})
	}
}

func TestUpdateWritesWhatIsDecidedAndNothingElse(t *testing.T) {
	const file = "testdata/cases/gpu.txtar"
	for name, want := range map[string]string{"another want": "-- want --\nallow\n", "no want": ""} {
		t.Run(name, func(t *testing.T) {
			before := "It has one.\n-- domain.xml --\n" + withGPU
			folder, output, passed := runKit(t, good().with(file, before+want), policytest.Config{}, "POLICYTEST_UPDATE=1")
			if !passed || !strings.Contains(output, file+": its want is written anew") {
				t.Fatal(output)
			}
			content, err := os.ReadFile(filepath.Join(folder, file))
			if err != nil {
				t.Fatal(err)
			}
			if got := string(content); got != good()[file] {
				t.Errorf("%s", got)
			}
		})
	}
}

func TestAnEngineOfAFolderDecides(t *testing.T) {
	dir := t.TempDir()
	rule := "package stopguard.rules.web\n\nveto contains \"no\" if {\n\tinput.operation == \"stop\"\n\tstartswith(input.domain.name, \"web-\")\n}\n"
	if err := os.WriteFile(filepath.Join(dir, "web.rego"), []byte(rule), 0o644); err != nil {
		t.Fatal(err)
	}
	e := policytest.Engine(t, dir)
	for name, refused := range map[string]bool{"web-1": true, "db-1": false} {
		domain, err := domainxml.Parse([]byte("<domain type='kvm' id='7'><name>" + name + "</name><uuid>f45a0402-29cc-4c9d-a7f6-8cea5050f819</uuid></domain>"))
		if err != nil {
			t.Fatal(err)
		}
		d, err := e.Decide(t.Context(), policy.Input{Operation: policy.OperationStop, Time: policytest.DefaultTime, Domain: domain})
		if err != nil || (len(d.Reasons) > 0) != refused {
			t.Errorf("%s: %+v, %v", name, d, err)
		}
	}
	if e.Reads(policy.PathHostDomains) || !e.Reads("domain.name") {
		t.Error("the rule reads the domain's name and no running domains")
	}
}
