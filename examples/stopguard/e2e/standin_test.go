//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"net"
	"os"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
)

// What the stand-in writes down of each connection, beside the scripts.
const gateLog = "/var/lib/stopguard/stand-in.log"

// standIn has the gate's place and nothing of its sense: it passes bytes, so that what is tested is how the gate comes and
// goes. Descriptors do not pass.
func standIn() error {
	listeners, err := activation.Listeners()
	if err != nil || len(listeners) != 1 {
		return fmt.Errorf("%d sockets from systemd: %v", len(listeners), err)
	}
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		return err
	}
	for {
		client, err := listeners[0].Accept()
		if err != nil {
			return err
		}
		go func() {
			defer client.Close()
			_, flag := os.Stat("/run/stopguard/shutting-down")
			if f, err := os.OpenFile(gateLog, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err == nil {
				fmt.Fprintf(f, "shutting down: %v\n", flag == nil)
				f.Close()
			}
			server, err := net.Dial("unix", "/run/stopguard-up/libvirt-sock")
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				return
			}
			defer server.Close()
			go func() {
				_, _ = io.Copy(server, client)
				_ = server.(*net.UnixConn).CloseWrite()
			}()
			_, _ = io.Copy(client, server)
		}()
	}
}
