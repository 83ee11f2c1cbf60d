# What Python's libvirt does while the gate is reloaded. Prints what came of it: "ok", or what was wrong.
import fcntl
import hashlib
import json
import os
import re
import socket
import struct
import subprocess
import sys
import termios
import threading
import time

import libvirt

PATIENCE, CLIENTS, RELOADS = 60, 64, 5
UNIT, RECORDS = "stopguard-gate.service", "/var/log/stopguard/decisions.jsonl"
GATE, KEPT = "/usr/sbin/stopguard-gate", "/usr/sbin/stopguard-gate.kept"
KEPT_TEXT = "stopguard: veto: g1: it is kept (rule site)"
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


def error_of(call):
    try:
        call()
    except libvirt.libvirtError as e:
        return re.split("; not (?:recorded|in the journal): ", str(e))[0]
    return "no error"


def client(n):
    try:
        c = libvirt.open("qemu:///system")
        while not stop.is_set():
            d = c.lookupByName("g1")
            same("<name>g1</name>" in d.XMLDesc(), True)
            same(c.getLibVersion(), 9000000)
            if n % 8 == 0:  # more would take longer than a decision may, on a small machine
                same(error_of(d.reset), KEPT_TEXT)
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


def a_volume(c):
    size = 48 << 20
    os.makedirs("/run/pool", exist_ok=True)
    pool = c.storagePoolCreateXML("<pool type='dir'><name>p</name><target><path>/run/pool</path></target></pool>", 0)
    volume = pool.createXML("<volume><name>v</name><capacity>%d</capacity><target><format type='raw'/></target></volume>" % size, 0)
    data = os.urandom(1 << 20) * (size >> 20)
    with open("/run/pool/v", "wb") as f:
        f.write(data)
    return pool, volume, data


def a_download_in_flight_arrives_whole():
    pool, volume, data = a_volume(conn)
    stream, down, got, reloads = conn.newStream(0), hashlib.sha256(), 0, 0
    volume.download(stream, 0, len(data), 0)
    while True:
        part = stream.recv(1 << 18)
        if not part:
            break
        down.update(part)
        got += len(part)
        if reloads < 3 and got > (reloads + 1) * len(data) // 4:
            reload()  # meanwhile what libvirtd sends fills what is between
            reloads += 1
    stream.finish()
    same((down.hexdigest(), reloads), (hashlib.sha256(data).hexdigest(), 3))
    volume.delete()
    pool.destroy()


def options_are_read_again():
    conf, metrics = "/etc/stopguard/gate.conf", "/run/stopguard/other.prom"
    with open(conf, "w") as f:
        f.write("metrics=%s\nrefuse=unknown\n" % metrics)
    same(subprocess.run(["systemctl", "reload", UNIT]).returncode, 1)
    same("gate.conf: line 2: no such flag -refuse" in log(), True)
    same((show("ActiveState"), os.path.exists(metrics)), ("active", False))
    with open(conf, "w") as f:
        f.write("metrics=%s\n" % metrics)
    reload()
    with open(metrics) as f:
        same("\nstopguard_gate_clients " in f.read(), True)
    os.remove(conf)
    reload()
    same((os.path.exists(metrics), os.path.exists("/run/stopguard/gate.prom")), (False, True))


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
        failed = subprocess.run(["systemctl", "reload", UNIT]).returncode
        if text and "hello" in text:  # only when it is to take over is it seen not to
            same(failed, 0)
            until(tell, lambda: kept() > before)
            until("the unit is active", lambda: show("ActiveState") == "active")
            same(show("StatusText").startswith("not reloaded: " + GATE), True)
        else:
            same((tell, failed, kept(), show("ActiveState")), (tell, 1, before, "active"))
        same((auto.isAlive(), conn.lookupByName("g1").info()[0], show("MainPID")), (1, libvirt.VIR_DOMAIN_RUNNING, pid))


class Between:
    """A way of a client's to the gate on which either direction can be held up."""

    def __init__(self):
        self.path = "/run/between-%d" % id(self)
        self.reads, self.goes_on, self.cut, self.cut_at = threading.Event(), threading.Event(), threading.Event(), 0
        self.reads.set()
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.path)
        listener.listen()
        threading.Thread(target=self.serve, args=(listener,), daemon=True).start()
        self.conn = libvirt.open("qemu+unix:///system?socket=" + self.path)

    def serve(self, listener):
        client, _ = listener.accept()
        self.gate = socket.socket(socket.AF_UNIX)
        self.gate.connect("/run/libvirt/libvirt-sock")
        threading.Thread(target=self.down, args=(client,), daemon=True).start()
        while True:
            data = client.recv(1 << 16)
            if self.cut_at:
                self.gate.sendall(data[:self.cut_at])
                data, self.cut_at = data[self.cut_at:], 0
                self.cut.set()
                self.goes_on.wait()
            self.gate.sendall(data)

    def down(self, client):
        while True:
            self.reads.wait()
            client.sendall(self.gate.recv(1 << 14))

    def count(self, what):  # bytes that the other end has not read, or that we have not
        return struct.unpack("i", fcntl.ioctl(self.gate, what, b"1234"))[0]

    def full(self):
        before = self.count(termios.FIONREAD)
        time.sleep(0.5)
        return before > 0 and before == self.count(termios.FIONREAD)


def half_a_call_is_followed_by_its_other_half():
    way, said = Between(), []
    domain = way.conn.lookupByName("g1")
    way.cut_at = 40
    t = threading.Thread(target=lambda: said.append(error_of(domain.reset)))
    t.start()
    until("the gate has the first half", lambda: way.cut.is_set() and way.count(termios.TIOCOUTQ) == 0)
    reload()
    reload()
    same(said, [])
    way.goes_on.set()
    t.join()
    same(said, [KEPT_TEXT])
    del domain
    same(way.conn.close(), 0)


def who_does_not_read_is_waited_for_and_named():
    way = Between()
    pool, volume, data = a_volume(way.conn)
    stream, down, got = way.conn.newStream(0), hashlib.sha256(), 0
    volume.download(stream, 0, len(data), 0)
    way.reads.clear()
    until("it is full between", way.full)
    before = taken()
    subprocess.run(["systemctl", "reload", UNIT], check=True)
    until("it is given up", lambda: show("StatusText").startswith("not reloaded: "))
    same(("process %d of user 0: the client does not read" % os.getpid() in show("StatusText"), taken(), show("ActiveState")), (True, before, "active"))
    same("a connection does not come to rest" in log(), True)
    same(conn.lookupByName("g1").info()[0], libvirt.VIR_DOMAIN_RUNNING)
    way.reads.set()
    while got < len(data):
        part = stream.recv(1 << 18)
        down.update(part)
        got += len(part)
    stream.finish()
    same(down.hexdigest(), hashlib.sha256(data).hexdigest())
    volume.delete()
    pool.destroy()
    reload()


def it_is_one_process():
    same(show("MainPID"), pid)
    same((show("NRestarts"), show("ActiveState")), ("0", "active"))
    auto.domainEventDeregisterAny(callback)
    same(auto.close(), 0)
    until("the domain dies with its connection", lambda: "auto" not in [d.name() for d in conn.listAllDomains()])


def a_crash_ends_connections_and_nothing_else():
    with open("/run/libvirt/qemu/g1.pid") as f:
        guest = f.read()
    ended, stop, wrong = [0] * 8, threading.Event(), []

    def goes_on(n):
        try:
            c = libvirt.open("qemu:///system")
            vetoes = 0
            while not stop.is_set():
                try:
                    said = error_of(c.lookupByName("g1").reset)
                except libvirt.libvirtError as e:
                    said = str(e)
                vetoes += said == KEPT_TEXT
                # libvirt's library may know that its socket is closed before isAlive says so.
                if said != KEPT_TEXT and c.isAlive() and "client socket is closed" not in said:
                    raise AssertionError(said)
                if said != KEPT_TEXT:
                    c = libvirt.open("qemu:///system")  # the first attempt succeeds
                    ended[n] += 1
            same(vetoes > 0, True)
        except Exception as e:
            wrong.append(str(e))

    threads = [threading.Thread(target=goes_on, args=(n,)) for n in range(len(ended))]
    for t in threads:
        t.start()
    for crash in range(2):
        before = vetoed()
        until("calls are vetoed", lambda: wrong or vetoed() > before + len(ended))
        subprocess.run(["systemctl", "kill", "--signal=KILL", UNIT], check=True)
        until("all have come again", lambda: wrong or min(ended) > crash)
    stop.set()
    for t in threads:
        t.join()
    same(wrong, [])
    c = libvirt.open("qemu:///system")
    same(error_of(c.lookupByName("g1").destroy), KEPT_TEXT)
    with open("/run/libvirt/qemu/g1.pid") as f:
        same(f.read(), guest)
    with open(RECORDS) as f:
        for line in f:
            if line.strip():
                json.loads(line)


def vetoed():
    with open(RECORDS) as f:
        return f.read().count('"outcome":"veto"')


results = {}
for check in (sixty_four_clients_notice_nothing, a_download_in_flight_arrives_whole, options_are_read_again,
              a_domain_that_dies_with_its_connection_lives_and_its_events_come, a_program_that_cannot_take_over_does_not,
              half_a_call_is_followed_by_its_other_half, who_does_not_read_is_waited_for_and_named, it_is_one_process,
              a_crash_ends_connections_and_nothing_else):
    try:
        check()
        results[check.__name__] = "ok"
    except Exception as e:
        results[check.__name__] = "%s: %s" % (type(e).__name__, e)
        print(log()[-3000:], show("StatusText"), file=sys.stderr)
json.dump(results, sys.stdout)
sys.stdout.flush()
os._exit(0)  # the thread of events does not end
