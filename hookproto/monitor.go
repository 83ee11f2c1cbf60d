package hookproto

import (
	"slices"
	"strconv"
	"strings"
)

// monitorState describes a domain's monitor as the socket table shows it.
type monitorState struct {
	isKnown   bool            // the table could be read
	isOpen    bool            // QEMU listens on the monitor, or something is connected to it
	listening map[string]bool // the sockets of daemons in the table, which covers one network namespace
}

// monitor looks for the domain's monitor and for the socket of the daemon that holds it.
func (h Host) monitor(path string, id int) (m monitorState) {
	m.listening = map[string]bool{}
	if path != "" {
		path = h.path(path)
	}
	if len(path) > longestSocketPath {
		return m
	}
	err := namedUnixSockets(func(s UnixSocket) {
		switch {
		case s.Listening && (strings.HasSuffix(s.Path, "/libvirt-sock") || strings.HasSuffix(s.Path, "/virtqemud-sock")):
			m.listening[s.Path] = true
		case path != "" && s.Path == path, isMonitor(s.Path, id):
			// The status file may spell the path without a control character of the name. QEMU
			// listens until it closes the monitor: a daemon that was restarted has yet to connect.
			m.isOpen = true
		}
	})
	m.isKnown = err == nil
	return m
}

// isListening reports whether the daemon's socket is among the paths, which a gate or systemd may
// hold in its place.
func (h Host) isListening(d daemon, paths map[string]bool) bool {
	return d.pid > 0 && slices.ContainsFunc(runDirs, func(run string) bool { return paths[h.path(run+d.socketName())] })
}

// isMonitor matches on the id alone, because libvirt shortens the name in the path. A false match
// only makes a domain count as alive.
func isMonitor(path string, id int) bool {
	dir, ok := strings.CutSuffix(path, "/monitor.sock")
	return ok && strings.HasPrefix(dir[strings.LastIndexByte(dir, '/')+1:], "domain-"+strconv.Itoa(id)+"-")
}
