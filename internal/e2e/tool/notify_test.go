//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The program of data.site.notify writes down what it was told and which rights it has.
// /run/stopguard is where the units let something be written.
const (
	toldFolder  = "/run/stopguard/told"
	tellProgram = "/usr/local/lib/tell"
	tell        = `#!/usr/bin/python3
import json, os, resource, socket, sys
event = json.loads(sys.stdin.readline())
socket.socket(socket.AF_INET)  # a webhook would need it
status = dict(line.split(":\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\t" in line)
event["rights"] = " ".join(status[name].split()[0] if name != "Groups" else repr(status[name].split()) for name in ("Uid", "Gid", "CapPrm", "CapEff", "NoNewPrivs", "Groups"))
event["rights"] += " %d %d" % (resource.getrlimit(resource.RLIMIT_DATA)[0], resource.getrlimit(resource.RLIMIT_NPROC)[0])
event["by"] = open("/proc/%d/comm" % os.getppid()).read().strip()
with open("/run/stopguard/told/lines", "a") as f: f.write(json.dumps(event) + "\n")
`
	hang = "#!/bin/sh\nexec sleep 1000\n"
)

const noRights = "65534 65534 0000000000000000 0000000000000000 1 [] 268435456 128"

// waitForEvent waits for an event, and records which unit sent it, the program's rights, and the
// other events.
func (h *host) waitForEvent(step, what string) {
	var all []string
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		all = nil
		for line := range strings.Lines(h.read(toldFolder + "/lines")) {
			var e struct {
				What, Rights, By, Name string
				RemovedFrom            []string `json:"removed_from"`
			}
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				continue
			}
			all = append(all, e.What)
			if e.What == what {
				h.see(step, 0, "%s by %s with %s", e.Name, e.By, e.Rights)
				_ = os.Remove(toldFolder + "/lines")
				return
			}
		}
	}
	h.see(step, 1, "not told of %s: %v", what, all)
}

// hangs waits until the program hangs, and returns its PID.
func (h *host) hangs() string {
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, file := range files {
			if content, _ := os.ReadFile(file); string(content) == "sleep\x001000\x00" {
				return filepath.Dir(file)
			}
		}
	}
	return "none"
}

// killed waits until a process has gone.
func (h *host) killed(step, process string) {
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if _, err := os.Stat(process); err != nil {
			h.see(step, 0, "%v", strings.HasPrefix(process, "/proc/"))
			return
		}
	}
	h.see(step, 1, "%s is there", process)
}

func (h *host) script(content string) {
	h.file(tellProgram, content)
	_ = os.Chmod(tellProgram, 0o755)
}

// notifications has the gate and the agent run the site's program, each in its unit.
func notifications(h *host) {
	h.file("/tmp/g1.xml", strings.Replace(guestXML, "<memory", `<metadata><p:protection xmlns:p="urn:stopguard:protection:1" reason="kept"/></metadata><memory`, 1))
	h.file("/etc/stopguard/policy/data.yaml", "site: {notify: {program: "+tellProgram+", user: nobody}}\n")
	h.file("/etc/libvirt/protected-domains", "web-01\nweb-02\n")
	h.script(tell)
	h.do("define", "virsh", "define", "/tmp/g1.xml")
	h.do("start", "virsh", "start", "g1")
	h.tool("install", "install", "--hook", shared+"/stopguard-hook", "--gate", shared+"/stopguard-gate", "--restart")
	if err := os.MkdirAll(toldFolder, 0o755); err == nil {
		_ = os.Chown(toldFolder, 65534, 65534)
	}
	state := "/var/lib/stopguard/notify/state"
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if _, err := os.Stat(state); err == nil {
			break
		}
	}
	h.do("a veto", "virsh", "destroy", "g1")
	h.do("the mark is removed", "virsh", "metadata", "g1", "urn:stopguard:protection:1", "--live", "--config", "--remove")
	h.waitForEvent("the gate tells it", "mark_removed")

	// A program that hangs.
	h.script(hang)
	h.file("/etc/libvirt/protected-domains", "web-02\n")
	process := h.hangs()
	began := time.Now()
	h.do("meanwhile", "virsh", "suspend", "g1")
	h.do("meanwhile, too", "virsh", "resume", "g1")
	h.see("nothing waits for it", 0, "%v", time.Since(began) < 20*time.Second)
	fmt.Println("two calls took", time.Since(began))
	h.killed("the gate kills it in time", process)
	process = h.hangs()
	h.do("stop of the gate", "systemctl", "stop", "stopguard-gate.socket", "stopguard-gate.service")
	h.killed("it ends with the gate", process)
	h.script(tell)

	// The agent goes on where the gate was stopped.
	agent, _ := os.ReadFile(shared + "/stopguard-agent")
	unit, _ := os.ReadFile(shared + "/stopguard-agent.service")
	_ = os.WriteFile("/usr/sbin/stopguard-agent", agent, 0o755)
	h.file("/etc/systemd/system/stopguard-agent.service", string(unit))
	h.file("/etc/stopguard/agent.yaml", "{}\n")
	h.do("reload", "systemctl", "daemon-reload")
	h.do("start of the agent", "systemctl", "start", "stopguard-agent.service")
	h.waitForEvent("the agent tells that the gate was stopped", "gate_stopped")
	h.file("/etc/libvirt/protected-domains", "")
	h.waitForEvent("the agent tells an entry", "list_removed")
	_, out := h.command(shared+"/stopguard", "doctor", "-o", "json")
	var r struct{ Findings []finding }
	_ = json.Unmarshal([]byte(out), &r)
	for _, f := range r.Findings {
		if f.ID == "notify" {
			h.see("doctor", 0, "%s", f.Severity)
		}
	}
	h.script(hang)
	h.tool("a ticket", "ticket", "grant", "g1", "--reason", "a test", "--for", "1h")
	h.killed("the agent kills it in time", h.hangs())
	h.do("the agent lives on", "systemctl", "is-active", "stopguard-agent.service")
}

func TestTheSitesProgramIsToldByGateAndAgentInTheirUnits(t *testing.T) {
	m := newMachine(t)
	for from, to := range map[string]string{os.Getenv(agentVariable): "stopguard-agent", "../../../packaging/stopguard-agent/stopguard-agent.service": "stopguard-agent.service"} {
		content, err := os.ReadFile(from)
		must(t, err)
		must(t, os.WriteFile(filepath.Join(m.folder, to), content, 0o755))
	}
	m.compare(m.run("notifications"), map[string]expected{
		"define":                    {0, "Domain 'g1' defined"},
		"start":                     {0, "Domain 'g1' started"},
		"install":                   {0, "through the gate"},
		"a veto":                    {1, "kept"},
		"the mark is removed":       {0, ""},
		"the gate tells it":         {0, "^g1 by stopguard-gate with " + noRights + "$"},
		"meanwhile":                 {0, "suspended"},
		"meanwhile, too":            {0, "resumed"},
		"nothing waits for it":      {0, "^true$"},
		"the gate kills it in time": {0, "^true$"},
		"stop of the gate":          {0, ""},
		"it ends with the gate":     {0, "^true$"},
		"reload":                    {0, ""},
		"start of the agent":        {0, ""},
		"the agent tells that the gate was stopped": {0, "^by stopguard-agent with " + noRights + "$"},
		"the agent tells an entry":                  {0, "^by stopguard-agent with " + noRights + "$"},
		"doctor":                                    {0, "^ok$"},
		"a ticket":                                  {0, ""},
		"the agent kills it in time":                {0, "^true$"},
		"the agent lives on":                        {0, "^active$"},
	})
}
