# What Python's libvirt does through the gate. Prints a line for each thing that was done: its name, and what came of it.
# Arguments: the gate's process and socket, the URI, and the names of the checks if not all are to be made.
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

import libvirt
import libvirt_qemu

libvirt.registerErrorHandler(lambda *_: None, None)
libvirt.virEventRegisterDefaultImpl()


def events():
    while True:
        libvirt.virEventRunDefaultImpl()


threading.Thread(target=events, daemon=True).start()

PATIENCE = 40
URI = sys.argv[3]
SOCKET = sys.argv[2]  # the gate's
conn = libvirt.open(URI)
free = conn.lookupByName("web-01")
guarded = conn.lookupByName("protected-01")


def until(what, done):
    end = time.time() + PATIENCE
    while not done():
        if time.time() > end:
            raise AssertionError("in vain: " + what)
        time.sleep(0.02)


def same(got, want):
    if got != want:
        raise AssertionError("%r, want %r" % (got, want))


def vetoed(f):
    try:
        f()
    except libvirt.libvirtError as e:
        # What a loaded machine does not record in time it says.
        same(re.split("; not (?:recorded|in the journal): ", str(e))[0], "stopguard: veto: protected-01: it is protected (rule site)")
        return e
    raise AssertionError("it is not vetoed")


def a_veto_is_a_libvirt_error():
    e = vetoed(guarded.destroy)
    same((e.get_error_code(), e.get_error_domain(), e.get_error_level()), (88, 10, 2))
    same((e.get_str2(), e.get_str3()), (str(e), "site"))
    same((e.get_int1(), e.get_int2()), (-1, -1))


def what_virsh_does_not_do_is_vetoed():
    resting = conn.lookupByName("protected-02")
    xml = guarded.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    for f in (
        lambda: guarded.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_GUEST_AGENT),
        lambda: guarded.saveParams({"file": "/run/x.save"}),
        lambda: guarded.managedSaveRemove(),
        lambda: guarded.managedSaveDefineXML(xml),
        lambda: conn.saveImageDefineXML("/run/x.save", xml),
        lambda: guarded.setAutostart(0),
        lambda: guarded.undefine(),
        lambda: conn.defineXMLFlags(bare(xml), libvirt.VIR_DOMAIN_DEFINE_VALIDATE),
        lambda: libvirt_qemu.qemuAgentCommand(guarded, '{"execute":"guest-exec"}', 1, 0),
        lambda: conn.createXML(xml, libvirt.VIR_DOMAIN_START_AUTODESTROY),
    ):
        vetoed(f)
    try:
        resting.createWithFlags(libvirt.VIR_DOMAIN_START_AUTODESTROY)
    except libvirt.libvirtError as e:
        same(str(e), "stopguard: veto: protected-02: it is protected (rule site)")
    try:
        libvirt_qemu.qemuAttach(conn, 1, 0)
    except libvirt.libvirtError as e:
        same(str(e), "stopguard: veto: QEMU_DOMAIN_ATTACH: no client may do this through the gate")


def a_domain_without_its_uuid_is_refused_by_libvirt():
    xml = re.sub("<uuid>.*</uuid>", "", bare(guarded.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)))
    try:
        conn.defineXML(xml)
    except libvirt.libvirtError as e:
        same("already exists with uuid" in str(e), True)
        return
    raise AssertionError("it is defined anew")


def bare(xml):
    without = re.sub("<protection[^>]*>", "", xml)
    same(without != xml, True)
    return without


def events_come():
    seen = []
    number = conn.domainEventRegisterAny(free, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, lambda c, d, e, detail, o: seen.append(e), None)
    free.suspend()
    free.resume()
    until("two events", lambda: seen == [libvirt.VIR_DOMAIN_EVENT_SUSPENDED, libvirt.VIR_DOMAIN_EVENT_RESUMED])
    conn.domainEventDeregisterAny(number)


CONSOLE = """<domain type='qemu'><name>console</name><memory unit='MiB'>32</memory>
<os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/></features>
<devices><disk type='file' device='disk'><source file='/run/console.img'/><target dev='hda' bus='ide'/></disk>
<serial type='pty'/></devices></domain>"""


def the_console_answers():
    shutil.copy("/var/lib/libvirt/images/web-01.img", "/run/console.img")
    d = conn.createXML(CONSOLE, 0)
    stream = conn.newStream(libvirt.VIR_STREAM_NONBLOCK)
    d.openConsole(None, stream, 0)
    answer = b""
    end = time.time() + PATIENCE
    while not answer and time.time() < end:
        stream.send(b"?")  # a byte that comes before the guest has booted is lost
        time.sleep(0.2)
        answer = stream.recv(1)
        if answer == -2:  # nothing yet
            answer = b""
    stream.abort()
    d.destroy()
    same(answer, b"b")


GRAPHIC = """<domain type='qemu'><name>graphic</name><memory unit='MiB'>32</memory>
<os><type arch='x86_64' machine='pc'>hvm</type></os>
<devices><graphics type='vnc'><listen type='none'/></graphics><video><model type='vga'/></video></devices></domain>"""


def screenshots_and_graphics():
    d = conn.createXML(GRAPHIC, 0)
    stream = conn.newStream(0)
    d.screenshot(stream, 0, 0)
    picture = []
    stream.recvAll(lambda s, data, o: picture.append(data), None)
    stream.finish()
    same(b"".join(picture)[:2] in (b"P6", b"\x89P"), True)
    for _ in range(20):
        fd = d.openGraphicsFD(0, 0)
        s = socket.socket(fileno=fd)
        same(s.recv(12), b"RFB 003.008\n")
        s.close()
        ours, theirs = socket.socketpair()
        d.openGraphics(0, theirs.fileno(), 0)
        theirs.close()
        same(ours.recv(12), b"RFB 003.008\n")
        ours.close()
    d.destroy()


def volumes_go_up_and_down_between_vetoes():
    size = 64 << 20
    pool = conn.storagePoolCreateXML("<pool type='dir'><name>p</name><target><path>/run/pool</path></target></pool>", 0)
    volume = pool.createXML("<volume><name>v</name><capacity>%d</capacity><target><format type='raw'/></target></volume>" % size, 0)
    data = os.urandom(1 << 20) * (size >> 20)
    stop, vetoes = threading.Event(), []

    def veto():
        while not stop.is_set():
            vetoed(guarded.suspend)
            vetoes.append(1)

    vetoer = threading.Thread(target=veto)
    vetoer.start()
    try:
        stream = conn.newStream(0)
        volume.upload(stream, 0, size, 0)
        sent = [0]

        def more(s, n, o):
            part = data[sent[0]:sent[0] + n]
            sent[0] += len(part)
            return part

        stream.sendAll(more, None)
        stream.finish()
        down = hashlib.sha256()
        stream = conn.newStream(0)
        volume.download(stream, 0, size, 0)
        stream.recvAll(lambda s, part, o: down.update(part), None)
        stream.finish()
        same(down.hexdigest(), hashlib.sha256(data).hexdigest())
        until("a veto", lambda: vetoes)
    finally:
        stop.set()
        vetoer.join()
        volume.delete()
        pool.destroy()
    same(conn.isAlive(), 1)


def sixty_four_clients_at_once():
    problems = []

    def client():
        try:
            c = libvirt.open(URI)
            d, p = c.lookupByName("web-01"), c.lookupByName("protected-01")
            xml = d.XMLDesc()
            for _ in range(20):
                same(d.XMLDesc() == xml, True)
            vetoed(p.suspend)
            c.close()
        except Exception as e:
            problems.append(repr(e))

    threads = [threading.Thread(target=client) for _ in range(64)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    same(problems, [])


def many_threads_on_one_connection():
    problems = []

    def caller():
        try:
            for _ in range(20):
                free.XMLDesc()
                vetoed(guarded.reset)
        except Exception as e:
            problems.append(repr(e))

    threads = [threading.Thread(target=caller) for _ in range(16)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    same(problems, [])


BUSY = """
import libvirt
c = libvirt.open("qemu:///system")
d, p = c.lookupByName("web-01"), c.lookupByName("protected-01")
print("ready", flush=True)
while True:
    d.XMLDesc()
    try:
        p.suspend()
    except libvirt.libvirtError:
        pass
"""


def descriptors_of_the_gate():
    return len(os.listdir("/proc/%s/fd" % sys.argv[1]))


def clients_are_killed_in_mid_call():
    before = descriptors_of_the_gate()
    for _ in range(3):
        children = [subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) for _ in range(4)]
        for c in children:
            c.stdout.readline()
        for c in children:
            c.send_signal(signal.SIGKILL)
            c.wait()
            c.stdout.close()
    until("the gate closes everything", lambda: descriptors_of_the_gate() <= before)
    same(guarded.state()[0], libvirt.VIR_DOMAIN_RUNNING)


def an_idle_client_is_alive():
    c = libvirt.open(URI)
    c.setKeepAlive(1, 3)
    time.sleep(5)
    same(c.isAlive(), 1)
    c.getLibVersion()
    c.close()


def a_domain_that_would_die_with_its_connection():
    c = libvirt.open(URI)
    d = c.createXML(GRAPHIC, libvirt.VIR_DOMAIN_START_AUTODESTROY)
    del d
    c.close()
    until("it dies", lambda: "graphic" not in [x.name() for x in conn.listAllDomains()])
    e = None
    try:
        conn.createXML(GRAPHIC.replace("graphic", "protected-x"), libvirt.VIR_DOMAIN_START_AUTODESTROY)
    except libvirt.libvirtError as err:
        e = str(err)
    same(e, "stopguard: veto: protected-x: it is protected (rule site)")


def an_identity_is_not_taken_on():
    try:
        conn.setIdentity({"user-name": "root", "unix-user-id": 0})
    except libvirt.libvirtError as e:
        same(str(e), "stopguard: veto: CONNECT_SET_IDENTITY: an identity is accepted once, before the first call that is decided")
    else:
        raise AssertionError("it is taken on")


def an_identity_is_not_taken_on_by_another_user():
    call = struct.pack(">IIIIIIII", 32, 0x20008086, 1, 419, 0, 1, 0, 0)
    ask = "import os, socket, sys; os.setuid(65534); s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.send(bytes.fromhex(sys.argv[2])); print(s.recv(4096))"
    answer = subprocess.run([sys.executable, "-c", ask, SOCKET, call.hex()], capture_output=True, text=True).stdout
    if "stopguard: veto: CONNECT_SET_IDENTITY: no client may do this through the gate" not in answer:
        raise AssertionError(answer)


def another_driver_has_domains_of_its_own():
    c = libvirt.open("test:///default")
    d = c.lookupByName("test")
    d.suspend()
    same(d.state()[0], libvirt.VIR_DOMAIN_PAUSED)


def a_read_only_client_is_refused_by_libvirt():
    c = libvirt.openReadOnly("qemu:///system?socket=" + SOCKET)
    same(len(c.listAllDomains()) >= 2, True)
    try:
        c.lookupByName("web-01").suspend()
    except libvirt.libvirtError as e:
        same(e.get_error_code(), libvirt.VIR_ERR_OPERATION_DENIED)
        return
    raise AssertionError("it may do more than read")


CHECKS = [
    a_veto_is_a_libvirt_error, what_virsh_does_not_do_is_vetoed, a_domain_without_its_uuid_is_refused_by_libvirt,
    events_come, the_console_answers, screenshots_and_graphics,
    volumes_go_up_and_down_between_vetoes, sixty_four_clients_at_once, many_threads_on_one_connection,
    clients_are_killed_in_mid_call, an_idle_client_is_alive, a_domain_that_would_die_with_its_connection,
    an_identity_is_not_taken_on, an_identity_is_not_taken_on_by_another_user, another_driver_has_domains_of_its_own, a_read_only_client_is_refused_by_libvirt,
]
os.makedirs("/run/pool", exist_ok=True)
results = []
for check in CHECKS:
    if len(sys.argv) > 4 and check.__name__ not in sys.argv[4:]:
        continue
    began = time.time()
    try:
        check()
        result = "ok"
    except Exception as e:
        result = "%s: %s" % (type(e).__name__, e)
    results.append({"name": check.__name__, "result": result, "seconds": round(time.time() - began, 1)})
json.dump(results, sys.stdout)
sys.stdout.flush()
os._exit(0)  # the thread of events does not end
