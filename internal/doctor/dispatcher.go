package doctor

import (
	"regexp"

	"github.com/stopguard/stopguard/internal/host"
)

// runsFolder matches a script's mention of the whole of qemu.d, as in "for f in $0.d/*". It does
// not match a folder for each domain, as in "$base/qemu.d/$1/$2", whose files libvirt does not run.
var runsFolder = regexp.MustCompile(`(?m)^[^#\n]*(qemu|\$0|\$\{0\})\.d["'` + "`" + `]?(/?["'` + "`" + `]?/?\*|["'` + "`" + `)\s;]|/?$)`)

// checkDispatcher looks for a script in the hook's place that runs the files of qemu.d itself. Such
// a script may pass the output of each file to the next, as libvirt does. If a hook does not print
// XML, libvirt continues with the last XML, but such a script continues without any.
func (d *doctor) checkDispatcher() {
	file := host.HooksFolder + "/qemu"
	for _, h := range d.hooks {
		if h.Path != file || !h.Executable || h.Ours {
			continue
		}
		if content, err := d.Beginning(file); err == nil && runsFolder.Match(content) {
			d.warning("hook-dispatcher", "have libvirt 6.5 or later run qemu.d, and take it out of the script; or keep the last XML there, as docs/hook.md shows",
				"%s seems to run the files in qemu.d itself: libvirt does so too from 6.5.0 on, so that each stop is decided twice, and a script that hands one file's output to the next loses it at stopguard's, which prints none",
				d.Path(file))
			return
		}
	}
	d.ok("hook-dispatcher", "no script in the place of hooks/qemu runs qemu.d once more")
}
