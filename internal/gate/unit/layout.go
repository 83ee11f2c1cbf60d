package unit

import _ "embed"

// Names of units, and folders of their files.
const (
	GateSocket  = "stopguard-gate.socket"
	GateService = "stopguard-gate.service"

	Folder = "/etc/systemd/system" // Folder has the administrator's units and drop-ins.

	// UpstreamFolder has the daemon's socket while the gate stands before the daemon.
	UpstreamFolder = "/run/stopguard-up"
)

// A Layout is one of the ways in which libvirt's work is divided among daemons. It has everything
// about the gate's place that differs between hosts.
type Layout struct {
	// Daemon is the daemon that runs QEMU domains, before which the gate stands. Its units, its pid
	// file and its configuration file are called after it.
	Daemon string

	Public   string   // Public is the path of the daemon's socket, where clients look for it.
	Upstream string   // Upstream is the path of the same socket behind the gate.
	Harmless []string // Harmless are paths of the daemon's sockets on which no call stops a domain.

	// Proxy is the daemon that connects to Daemon for clients on the network, and for those of
	// libvirtd's socket. It is "" if Daemon serves these clients itself.
	Proxy string

	// Gate is the drop-in that tells the gate which daemon it stands before.
	Gate File

	// Moves are the drop-ins that take effect at systemd's next reload, whoever causes it. The
	// first is for the daemon's socket, the other for the proxy.
	Moves []File

	// Fix tells the operator how to have systemd make the daemon's socket, on a host where the
	// daemon makes it.
	Fix string
}

// A File is a file for systemd.
type File struct{ Path, Content string }

// Socket returns the name of the daemon's socket unit.
func (l Layout) Socket() string { return l.Daemon + ".socket" }

// Service returns the name of the daemon's service unit.
func (l Layout) Service() string { return l.Daemon + ".service" }

// Config returns the path of the daemon's configuration file.
func (l Layout) Config() string { return "/etc/libvirt/" + l.Daemon + ".conf" }

// Move returns the drop-in of the daemon's socket. While it is there, the gate stands before the
// daemon.
func (l Layout) Move() File { return l.Moves[0] }

// Monolithic is the layout of a host where libvirtd does all the work.
var Monolithic = Layout{
	Daemon:   "libvirtd",
	Public:   "/run/libvirt/libvirt-sock",
	Upstream: UpstreamFolder + "/libvirt-sock",
	Harmless: []string{"/run/libvirt/libvirt-sock-ro", "/run/libvirt/libvirt-admin-sock"},
	Gate:     File{gateDropIn, libvirtdGate},
	Moves:    []File{{Folder + "/libvirtd.socket.d/50-stopguard.conf", libvirtdSocket}},
	Fix:      "systemctl stop libvirtd.service, take --listen out of its arguments, systemctl enable --now libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket",
}

// Modular is the layout of a host where virtqemud runs QEMU domains. Clients prefer its socket to
// libvirtd's.
var Modular = Layout{
	Daemon:   "virtqemud",
	Public:   "/run/libvirt/virtqemud-sock",
	Upstream: UpstreamFolder + "/virtqemud-sock",
	Harmless: []string{"/run/libvirt/virtqemud-sock-ro", "/run/libvirt/virtqemud-admin-sock"},
	Proxy:    "virtproxyd",
	Gate:     File{gateDropIn, virtqemudGate},
	Moves: []File{
		{Folder + "/virtqemud.socket.d/50-stopguard.conf", virtqemudSocket},
		{Folder + "/virtproxyd.service.d/50-stopguard.conf", virtproxydService},
	},
	Fix: "systemctl enable --now virtqemud.socket virtqemud-ro.socket virtqemud-admin.socket",
}

// Layouts are the layouts that a gate can stand in.
var Layouts = []Layout{Monolithic, Modular}

// Other returns the layout that is not l.
func (l Layout) Other() Layout {
	if l.Daemon == Modular.Daemon {
		return Monolithic
	}
	return Modular
}

const gateDropIn = Folder + "/" + GateService + ".d/50-daemon.conf"

var (
	//go:embed libvirtd-socket.conf
	libvirtdSocket string

	//go:embed libvirtd-gate.conf
	libvirtdGate string

	//go:embed virtqemud-socket.conf
	virtqemudSocket string

	//go:embed virtqemud-gate.conf
	virtqemudGate string

	//go:embed virtproxyd-service.conf
	virtproxydService string
)
