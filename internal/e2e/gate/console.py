# Types numbered lines into a guest's console, which gives each byte back, until /run/console.stop is there. Says how many came
# back in /run/console.count, and prints in the end what was wrong with them, if anything.
import os
import threading
import time

import libvirt

PATIENCE, AHEAD = 40, 64


def events():
    while True:
        libvirt.virEventRunDefaultImpl()


libvirt.virEventRegisterDefaultImpl()
threading.Thread(target=events, daemon=True).start()
conn = libvirt.open("qemu:///system")
stream = conn.newStream(libvirt.VIR_STREAM_NONBLOCK)
conn.lookupByName("console-01").openConsole(None, stream, libvirt.VIR_DOMAIN_CONSOLE_FORCE)

typed, came, left, last = b"", b"", b"", time.time()
n = 0
while True:
    stopping = os.path.exists("/run/console.stop")
    if not left and not stopping and len(typed) - len(came) < AHEAD:
        n += 1
        left = b"%07d\n" % n
        typed += left
    if left:
        sent = stream.send(left)
        if sent > 0:  # -2: there is no room
            left = left[sent:]
    got = stream.recv(1 << 16)
    if got == b"":
        break
    if got != -2:
        came, last = came + got, time.time()
        with open("/run/console.new", "w") as f:
            f.write(str(came.count(b"\n")))
        os.rename("/run/console.new", "/run/console.count")
    if not typed.startswith(came):
        break
    if stopping and not left and len(came) >= len(typed) or time.time() - last > PATIENCE:
        break
    time.sleep(0.002)
same = 0
while same < min(len(typed), len(came)) and typed[same] == came[same]:
    same += 1
print("ok" if typed == came else "of %d bytes came %d; at %d %r came for %r" % (len(typed), len(came), same, came[same:same + 40], typed[same:same + 40]), flush=True)
os._exit(0)  # the thread of events does not end
