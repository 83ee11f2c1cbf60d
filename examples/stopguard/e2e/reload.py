# What Python's libvirt does while the gate is reloaded. Prints what came of it: "ok", or what was wrong.
import hashlib
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time

import libvirt

PATIENCE, CLIENTS, RELOADS = 60, 64, 5
UNIT = "stopguard-gate.service"
GATE, KEPT = "/usr/sbin/stopguard-gate", "/usr/sbin/stopguard-gate.kept"
AUTO = """<domain type='qemu'><name>auto</name><memory unit='MiB'>16</memory><os><type>hvm</type></os>
<devices><controller type='usb' model='none'/><memballoon model='none'/></devices></domain>"""

libvirt.registerErrorHandler(lambda *_: None, None)
libvirt.virEventRegisterDefaultImpl()


def run_events():
    while True:
        libvirt.virEventRunDefaultImpl()


threading.Thread(target=run_events, daemon=True).start()


def output(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, text=True).stdout.strip()


def until(what, done):
    end = time.time() + PATIENCE
    while not done():
        if time.time() > end:
            raise AssertionError("in vain: " + what)
        time.sleep(0.02)


def same(got, want):
    if got != want:
        raise AssertionError("%r, want %r" % (got, want))


def show(what):
    return output("systemctl", "show", "--property=" + what, "--value", UNIT)


def taken():
    return log().count("took over from the program before")


def kept():
    return log().count("the program goes on that was there before")


def log():
    return output("journalctl", "--no-pager", "-o", "cat", "-u", UNIT)


def reload():
    before = taken()
    subprocess.run(["systemctl", "reload", UNIT], check=True)
    until("a reload", lambda: taken() > before)
    until("the unit is active", lambda: show("ActiveState") == "active")


pid = show("MainPID")
conn = libvirt.open("qemu:///system")
auto = libvirt.open("qemu:///system")
came = []
callback = auto.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, lambda c, d, event, detail, _: came.append((d.name(), event)), None)
auto.createXML(AUTO, libvirt.VIR_DOMAIN_START_AUTODESTROY)
stop, calls, wrong = threading.Event(), [0] * CLIENTS, []


def client(n):
    try:
        c = libvirt.open("qemu:///system")
        while not stop.is_set():
            d = c.lookupByName("g1")
            same("<name>g1</name>" in d.XMLDesc(), True)
            same(c.getLibVersion(), 9000000)
            if n % 8 == 0:  # more would take longer than a decision may, on a small machine
                try:
                    d.reset()
                    raise AssertionError("no veto")
                except libvirt.libvirtError as e:
                    same(str(e).split("; not recorded: ")[0], "stopguard: veto: g1: it is kept (rule site)")
            calls[n] += 1
        del d  # it has the connection
        same(c.close(), 0)
    except Exception as e:
        wrong.append(str(e))


def sixty_four_clients_notice_nothing():
    threads = [threading.Thread(target=client, args=(n,)) for n in range(CLIENTS)]
    for t in threads:
        t.start()
    until("each has called", lambda: wrong or all(calls))
    for _ in range(RELOADS):
        at = list(calls)
        reload()
        until("each goes on", lambda: wrong or all(b > a for a, b in zip(at, calls)))
    stop.set()
    for t in threads:
        t.join()
    same(wrong, [])
    print("%d rounds of calls" % sum(calls), file=sys.stderr)


def a_download_in_flight_arrives_whole():
    size = 48 << 20
    os.makedirs("/run/pool", exist_ok=True)
    pool = conn.storagePoolCreateXML("<pool type='dir'><name>p</name><target><path>/run/pool</path></target></pool>", 0)
    volume = pool.createXML("<volume><name>v</name><capacity>%d</capacity><target><format type='raw'/></target></volume>" % size, 0)
    data = os.urandom(1 << 20) * (size >> 20)
    with open("/run/pool/v", "wb") as f:
        f.write(data)
    stream, down, got, reloads = conn.newStream(0), hashlib.sha256(), 0, 0
    volume.download(stream, 0, size, 0)
    while True:
        part = stream.recv(1 << 18)
        if not part:
            break
        down.update(part)
        got += len(part)
        if reloads < 3 and got > (reloads + 1) * size // 4:
            reload()  # meanwhile what libvirtd sends fills what is between
            reloads += 1
    stream.finish()
    same((down.hexdigest(), reloads), (hashlib.sha256(data).hexdigest(), 3))
    volume.delete()
    pool.destroy()


def a_domain_that_dies_with_its_connection_lives_and_its_events_come():
    same(auto.isAlive(), 1)
    d = conn.lookupByName("auto")
    d.suspend()
    until("the event", lambda: ("auto", libvirt.VIR_DOMAIN_EVENT_SUSPENDED) in came)
    same(d.info()[0], libvirt.VIR_DOMAIN_PAUSED)


def a_program_that_cannot_take_over_does_not():
    os.rename(GATE, KEPT)
    try:
        bad_programs()
    finally:
        os.rename(KEPT, GATE)
    reload()


def bad_programs():
    for text in "#!/bin/sh\nexit 1\n", "#!/bin/sh\necho hello\n", "no program\n", None:
        if text:
            with open(GATE, "w") as f:
                f.write(text)
            os.chmod(GATE, 0o755)
        elif os.path.exists(GATE):
            os.remove(GATE)
        tell = "said %r" % text
        before = kept()
        subprocess.run(["systemctl", "reload", UNIT], check=True)
        until(tell, lambda: kept() > before)
        until("the unit is active", lambda: show("ActiveState") == "active")
        same(show("StatusText").startswith("not reloaded: " + GATE), True)
        same((auto.isAlive(), conn.lookupByName("g1").info()[0], show("MainPID")), (1, libvirt.VIR_DOMAIN_RUNNING, pid))


def half_a_call_is_waited_for():
    s = socket.socket(socket.AF_UNIX)
    s.connect("/run/libvirt/libvirt-sock")
    s.sendall(struct.pack(">7I", 28 + 8, 0x20008086, 1, 12, 0, 1, 0))  # a destroy, and not whole
    time.sleep(0.5)
    before = taken()
    subprocess.run(["systemctl", "reload", UNIT], check=True)
    until("it is given up", lambda: "sent only a part of a call" in show("StatusText"))
    same((taken(), conn.lookupByName("g1").info()[0]), (before, libvirt.VIR_DOMAIN_RUNNING))
    s.close()
    reload()


def it_is_one_process():
    same(show("MainPID"), pid)
    same((show("NRestarts"), show("ActiveState")), ("0", "active"))
    auto.domainEventDeregisterAny(callback)
    same(auto.close(), 0)
    until("the domain dies with its connection", lambda: "auto" not in [d.name() for d in conn.listAllDomains()])


results = {}
for check in (sixty_four_clients_notice_nothing, a_download_in_flight_arrives_whole,
              a_domain_that_dies_with_its_connection_lives_and_its_events_come, a_program_that_cannot_take_over_does_not,
              half_a_call_is_waited_for, it_is_one_process):
    try:
        check()
        results[check.__name__] = "ok"
    except Exception as e:
        results[check.__name__] = "%s: %s" % (type(e).__name__, e)
        print(log()[-3000:], show("StatusText"), file=sys.stderr)
json.dump(results, sys.stdout)
sys.stdout.flush()
os._exit(0)  # the thread of events does not end
