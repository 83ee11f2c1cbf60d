package relay

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	reset     = 245
	injectNMI = 210
)

// The real guest ends in internal/e2e/gate.
func TestAResetThatEndsTheDomainIsAStop(t *testing.T) {
	t.Parallel()
	with := func(onReboot string) string {
		return strings.Replace(xmlOf(ordinary), "</uuid>", "</uuid>"+onReboot, 1)
	}
	option := func(value string) string {
		return with("<qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><qemu:arg value='" + value + "'/></qemu:commandline>")
	}
	const panics = "<devices><panic model='isa'/></devices>"
	for _, tt := range []struct {
		why  string
		call message
		xml  string
		want []string
	}{
		{"it is restarted", about(reset, ordinary, 0), with("<on_reboot>restart</on_reboot>"), []string{"reset"}},
		{"so it is if nothing is said", about(reset, ordinary, 0), with(""), []string{"reset"}},
		{"it ends", about(reset, ordinary, 0), with("<on_reboot>destroy</on_reboot>"), []string{"stop", "reset"}},
		{"its process stays, without it", about(reset, ordinary, 0), with("<on_reboot>preserve</on_reboot>"), []string{"stop", "reset"}},
		{"we do not know what that is", about(reset, ordinary, 0), with("<on_reboot>other</on_reboot>"), []string{"stop", "reset"}},
		{"QEMU is told otherwise", about(reset, ordinary, 0), option("-no-reboot"), []string{"stop", "reset"}},
		{"QEMU is told otherwise, in other words", about(reset, ordinary, 0), option("--action"), []string{"stop", "reset"}},
		{"QEMU is told something else", about(reset, ordinary, 0), option("-no-hpet"), []string{"reset"}},
		{"it cannot be told", about(reset, ordinary, 0), with("<cputune><shares>many</shares></cputune>"), []string{"stop", "reset"}},
		{"a panic would not be noticed", about(injectNMI, ordinary, 0), with("<on_crash>destroy</on_crash>"), []string{"reset"}},
		{"a guest that panics ends", about(injectNMI, ordinary, 0), with("<on_crash>destroy</on_crash>" + panics), []string{"stop", "reset"}},
		{"it does if nothing is said", about(injectNMI, ordinary, 0), with(panics), []string{"stop", "reset"}},
		{"a guest that panics restarts", about(injectNMI, ordinary, 0), with("<on_crash>restart</on_crash>" + panics), []string{"reset"}},
		{"likewise, after a dump", about(injectNMI, ordinary, 0), with("<on_crash>coredump-restart</on_crash>" + panics), []string{"reset"}},
		{"it runs on", about(injectNMI, ordinary, 0), with("<on_crash>preserve-running</on_crash>" + panics), []string{"reset"}},
		{"a reset is no panic", about(reset, ordinary, 0), with(panics), []string{"reset"}},
		{"a pause is none", about(suspend, ordinary), with("<on_reboot>destroy</on_reboot>"), []string{"pause"}},
	} {
		t.Run(tt.why, func(t *testing.T) {
			s := newStage(t, nil)
			client, daemon := s.connect()
			client.say(t, tt.call)
			daemon.replyXML(t, tt.xml)
			if got := daemon.next(t); got.Procedure != tt.call.Procedure {
				t.Errorf("instead of the call comes %+v", got.Header)
			}
			s.asking.Lock()
			defer s.asking.Unlock()
			var got []string
			for _, r := range s.asked {
				got = append(got, r.Operation)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
