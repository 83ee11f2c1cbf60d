//go:build e2e

package e2e

import "strings"

// lastShutdown prints how long the last shutdown took, in seconds: from its first stopped service
// to the end of the journal; and how long libvirt-guests took of that.
const lastShutdown = `python3 - <<'P'
import json, subprocess
entries = [json.loads(line) for line in subprocess.check_output(["journalctl", "-b", "-1", "-o", "json", "-n", "3000"]).splitlines()]
at = lambda e: int(e["__REALTIME_TIMESTAMP"]) / 1e6
begun = [at(e) for e in entries if "eboot" in str(e.get("MESSAGE")) and e.get("_COMM") == "systemd-logind"]
guests = [at(e) for e in entries if e.get("UNIT") == "libvirt-guests.service" and str(e["MESSAGE"]).startswith(("Stopping", "Stopped"))]
print("%.0f s, %.0f s of it for the guests" % (at(entries[-1]) - begun[-1], guests[-1] - guests[0]))
P`

// boots reboots the host with an autostarted guest that is protected, in both modes of
// libvirt-guests.
func (h *host) boots() {
	for _, mode := range []struct{ name, config, done string }{
		{"ON_SHUTDOWN=suspend", "ON_SHUTDOWN=suspend\nON_BOOT=start\nPARALLEL_SHUTDOWN=3\n", "Suspending pg-01: done"},
		{"ON_SHUTDOWN=shutdown", "ON_SHUTDOWN=shutdown\nON_BOOT=ignore\nPARALLEL_SHUTDOWN=3\nSHUTDOWN_TIMEOUT=120\n", "Shutdown of guest pg-01 complete"},
	} {
		h.must("printf '" + strings.ReplaceAll(mode.config, "\n", `\n`) + "' >/etc/default/libvirt-guests; rm -f /var/log/stopguard/decisions.jsonl*")
		h.reboot()
		took := h.ssh("root", lastShutdown)
		h.note(mode.name+": the shutdown ends, and takes", took.exit == 0, strings.TrimSpace(took.text))
		if took.exit != 0 {
			h.t.Error(took.text)
		}
		h.do(mode.name+": the gate lets the guests go, and records that the host shuts down",
			"cat /var/log/stopguard/decisions.jsonl | grep '\"pg-01\"' | grep -c '\"unenforced\":\"shutting_down\"'", works)
		// virtlogd has ended by then on some hosts, so that libvirt's log of the guest is silent.
		h.do(mode.name+": the guests end as they should", "journalctl -b -1 -u libvirt-guests -o cat | grep pg-01", prints(mode.done))
		h.do(mode.name+": nobody's guest is an escape", "grep -c '\"outcome\":\"escape\"' /var/log/stopguard/decisions.jsonl", fails("^0"))
		h.do(mode.name+": after the boot, the gate is in front", "within 60 'virsh list' && systemctl is-active stopguard-gate.socket stopguard-gate.service && ss -xlp | grep /run/stopguard-up/libvirt-sock", prints("stopguard-up"))
		h.do(mode.name+": the autostarted guest runs", "within 180 'virsh domstate pg-01 | grep -q running'", works)
		h.do(mode.name+": and is protected", "virsh destroy pg-01", vetoed(pg))
		h.doctor(mode.name + ": stopguard doctor, every line is ok")
		h.do(mode.name+": no unit has failed", "systemctl --failed --no-legend", prints("^$"))
		h.must("for g in pg-01 db-01 web-01; do virsh domstate $g | grep -q running || virsh start $g; done")
	}
}
