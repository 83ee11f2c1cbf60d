# What Nova and its like do with a domain of libvirt's, and how they read its errors. Prints what came of each step.
import json
import os
import sys

import libvirt

libvirt.registerErrorHandler(lambda *_: None, None)
uri, runs, off, absent = sys.argv[1:5]
conn = libvirt.open(uri)
OF_GUEST = libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
NO_DOMAIN, OFF, DENIED = libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_ACCESS_DENIED


class Reported(Exception):
    """What the manager shows to whoever asked it."""


def end(domain):
    """Nothing of the guest is to run afterwards. It is no error if nothing did."""
    try:
        domain.destroyFlags(0)
    except libvirt.libvirtError as e:
        code = e.get_error_code()
        if code == NO_DOMAIN:
            return "gone"
        if code == OFF and domain.info()[0] == libvirt.VIR_DOMAIN_SHUTOFF:
            return "off"
        raise Reported("code %d: %s" % (code, e))
    return "destroyed"


def forget(domain):
    try:
        domain.undefineFlags(OF_GUEST)
    except libvirt.libvirtError as e:
        if e.get_error_code() == NO_DOMAIN:
            return "gone"
        raise Reported("code %d: %s" % (e.get_error_code(), e))
    return "undefined"


def delete(domain):
    return end(domain) + ", " + forget(domain)


def hard_reboot(domain):
    """The guest is begun anew with XML that is made anew."""
    xml = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE).replace("<vcpu", "<title>anew</title><vcpu", 1)
    how, before = end(domain), domain.UUIDString()
    anew = conn.defineXML(xml)
    anew.createWithFlags(0)
    return "%s, %s, %s" % (how, "same" if anew.UUIDString() == before else "another", state(anew))


def hard_reboot_transient(domain):
    xml = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    how = end(domain) + ", " + forget(domain)
    anew = conn.createXML(xml, 0)
    conn.defineXML(xml)
    return how + ", " + state(anew)


def clean_up(uuids):
    """What has been evacuated to other hosts is not to run here any more."""
    found = []
    for uuid in uuids:
        try:
            found.append(delete(conn.lookupByUUIDString(uuid)))
        except Reported as e:
            found.append(str(e))
        except libvirt.libvirtError as e:
            found.append("absent" if e.get_error_code() == NO_DOMAIN else repr(e))
    return "; ".join(found)


def state(domain):
    return {libvirt.VIR_DOMAIN_RUNNING: "running", libvirt.VIR_DOMAIN_SHUTOFF: "off"}.get(domain.state()[0], "else")


class Absent:
    """A domain that was there when the manager looked."""

    def __init__(self):
        self.domain = conn.createXML(
            "<domain type='qemu'><name>brief</name><memory unit='MiB'>32</memory><os><type arch='x86_64' machine='pc'>hvm</type></os></domain>", 0)
        libvirt.open(DIRECT).lookupByName("brief").destroy()


DIRECT = "qemu:///system?socket=/run/stopguard-up/libvirt-sock"


def run(f):
    try:
        return f()
    except Reported as e:
        return str(e)
    except libvirt.libvirtError as e:
        return "not foreseen: %d %s" % (e.get_error_code(), e)


live, resting = conn.lookupByUUIDString(runs), conn.lookupByUUIDString(off)
results = [
    ["hard reboot", run(lambda: hard_reboot(live))],
    ["hard reboot, transient", run(lambda: hard_reboot_transient(conn.lookupByUUIDString(runs)))],
    ["hard reboot of one that is off", run(lambda: hard_reboot(resting))],
    ["and off again", run(lambda: end(resting))],
    ["delete of one that has gone meanwhile", run(lambda: delete(Absent().domain))],
    ["clean up", run(lambda: clean_up([runs, off, absent]))],
    ["delete again", run(lambda: delete(live))],
]
json.dump(results, sys.stdout)
sys.stdout.flush()
os._exit(0)
