//go:build e2e

package e2e

import (
	"encoding/hex"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/stopguard/stopguard/internal/e2ehost"
	"github.com/stopguard/stopguard/internal/gate/call"
	"github.com/stopguard/stopguard/internal/gate/wire"
)

// encoded is a name as the parameter of a URI. A client's library sends it as it is.
var encoded = strings.NewReplacer("%", "%25", "+", "%2B", "?", "%3F", "=", "%3D", "&", "%26", "#", "%23", ";", "%3B")

// named is a URI by which virsh has the daemon behind a socket open a name.
func named(socket, name string) string {
	return "qemu:///system?socket=" + socket + "&name=" + encoded.Replace(name)
}

// elsewhere are names that libvirtd would open with its remote driver. The first leads libvirtd to
// itself.
var elsewhere = []string{
	"qemu+unix:///system?socket=" + pastSocket,
	"qemu:///system?socket=" + pastSocket,
	"qemu:///system?%73ocket=" + pastSocket,
	"qemu+unix:///system",
	"qemu+tcp://127.0.0.1/system",
	"qemu://localhost/system",
	"remote+unix:///system",
	"test+unix:///default?socket=" + pastSocket,
}

// own are names that its own drivers open, or none.
var own = []string{"qemu:///system", "qemu:///system?x=1", "test:///default", "lxc:///", "xen", "vbox:///system", "esx://127.0.0.1/?no_verify=1", "nothing:///"}

func (h *host) open() {
	h.begin()
	h.Run("ip", "link", "set", "lo", "up")
	h.DirectOK("define", h.Write(resting))
	for _, name := range elsewhere {
		h.Doing = name
		for _, readOnly := range []string{"", "--readonly"} {
			socket := gateSocket
			if readOnly != "" {
				socket += "-ro"
			}
			h.seen = append(h.seen, step{Name: name, Memory: "elsewhere", Through: h.Command("", h.Environment(), "virsh", append(strings.Fields(readOnly), "-c", named(socket, name), "list", "--all")...)})
		}
	}
	for _, name := range own {
		h.Doing = name
		h.seen = append(h.seen, step{Name: name, Memory: "own",
			Through: h.Command("", h.Environment(), "virsh", "-c", named(gateSocket, name), "list", "--all"),
			Direct:  h.Command("", h.Environment(), "virsh", "-c", named(pastSocket, name), "list", "--all")})
	}
	h.Doing = "libvirtd answers"
	h.note("libvirtd answers", h.Virsh("list", "--all", "--name"))

	h.Doing = "a domain that is off is destroyed"
	s := step{Name: "a domain that is off is destroyed"}
	for path, answer := range map[string]*e2ehost.Answer{gateSocket: &s.Through, pastSocket: &s.Direct} {
		r := h.connect(path).open()
		c := wire.Frame(wire.Header{Program: call.Remote, Version: 1, Procedure: domainDestroy, Serial: 77}, about(resting))
		if _, err := r.conn.Write(c); err != nil {
			h.Fatalf("%v", err)
		}
		head := make([]byte, wire.HeaderSize)
		if _, err := io.ReadFull(r.conn, head); err != nil {
			h.Fatalf("%v", err)
		}
		body := make([]byte, wire.ReadHeader(head).Length-wire.HeaderSize)
		if _, err := io.ReadFull(r.conn, body); err != nil {
			h.Fatalf("%v", err)
		}
		answer.Stdout = hex.Dump(append(head, body...))
		_ = r.conn.Close()
	}
	h.seen = append(h.seen, s)
}

func TestANameThatLeadsLibvirtdElsewhereIsRefusedAndItsOwnPass(t *testing.T) {
	for _, s := range on(t, "open") {
		t.Run(s.Name, func(t *testing.T) {
			switch s.Memory {
			case "elsewhere":
				if s.Through.Exit != 1 || !strings.Contains(s.Through.Stderr, "\nerror: stopguard: veto: CONNECT_OPEN: libvirtd would open the name ") || !strings.Contains(s.Through.Stderr, "; connect with ") {
					t.Errorf("%+v", s.Through)
				}
			case "own":
				if s.Through.Stdout != s.Direct.Stdout || s.Through.Stderr != s.Direct.Stderr || s.Through.Exit != s.Direct.Exit {
					t.Errorf("with the gate %+v, without it %+v", s.Through, s.Direct)
				}
			case "":
				if s.Name == "libvirtd answers" {
					if strings.TrimSpace(s.Through.Stdout) != resting.Name {
						t.Errorf("%+v", s.Through)
					}
				} else if s.Through.Stdout != s.Direct.Stdout || s.Through.Stdout == "" {
					t.Errorf("with the gate\n%s\nwithout it\n%s", s.Through.Stdout, s.Direct.Stdout)
				}
			}
			t.Log(s.Through.Stdout, s.Through.Stderr)
		})
	}
}

// noNameElsewhere fails if a client of a script has sent, by itself, a name that is refused.
func (h *host) noNameElsewhere() {
	log, _ := os.ReadFile(e2ehost.GateLog)
	for line := range strings.Lines(string(log)) {
		if strings.Contains(line, "procedure=CONNECT_OPEN") {
			h.Fatalf("a client's own name is refused: %s", line)
		}
	}
}
