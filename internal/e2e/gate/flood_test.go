//go:build e2e

package e2e

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/stopguard/stopguard/internal/e2ehost"
)

// flood is a user of the host with read-only access who sends held calls as fast as possible. It
// prints the number of answers.
const flood = `
import socket, struct, sys, threading
path, clients, calls, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
readonly = int(path.endswith("-ro"))
def frame(procedure, serial, payload):
    return struct.pack(">IIIIIII", 28 + len(payload), 0x20008086, 1, procedure, 0, serial, 0) + payload
uuid = bytes.fromhex(sys.argv[5].replace("-", ""))
first = frame(66, 0, b"") + frame(1, 1, struct.pack(">II", 1, 14) + b"qemu:///system\0\0" + struct.pack(">I", readonly))
stops = b"".join(frame(12, 2 + i, struct.pack(">I", 0) + uuid + struct.pack(">I", 0) + b"x" * size) for i in range(calls))
answered = []
def client():
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    f = s.makefile("rb")
    def read():
        (length,) = struct.unpack(">I", f.read(4))
        return f.read(length - 4)
    s.sendall(first)
    read(), read()
    t = threading.Thread(target=s.sendall, args=(stops,))
    t.start()
    answered.append(sum(1 for _ in range(calls) if read()))
    t.join()
threads = [threading.Thread(target=client) for _ in range(clients)]
for t in threads: t.start()
for t in threads: t.join()
print(sum(answered))
`

const (
	floodClients, floodCalls = 60, 200
	// floodMemory is the limit of the gate's memory, in KiB, while the calls have 700 MB.
	floodMemory = 100 << 10
)

// flood lets an unprivileged user of the host send calls about a protected guest over the read-only
// socket.
func (h *host) flood() {
	h.File("/run/flood.py", flood, 0o644)
	h.Run("useradd", "-M", "mallory")
	h.Records()
	got := h.CommandWithin(3*e2ehost.Patience, "", h.Environment(), "setpriv", "--reuid=mallory", "--regid=mallory", "--clear-groups",
		python, "/run/flood.py", gateSocket+"-ro", strconv.Itoa(floodClients), strconv.Itoa(floodCalls), "60000", listed.UUID)
	status := h.Read(fmt.Sprintf("/proc/%d/status", h.Gate.Process.Pid))
	most, err := strconv.Atoi(regexp.MustCompile(`(?m)^VmHWM:\s*(\d+) kB$`).FindStringSubmatch(status)[1])
	if err != nil {
		h.Fatalf("%v: %s", err, status)
	}
	if got.Stdout = fmt.Sprintf("%s answers for %d KiB", strings.TrimSpace(got.Stdout), most); most > floodMemory {
		got.Exit = 1
	}
	h.Records()
	h.record("a flood of calls", got, listed)
}
