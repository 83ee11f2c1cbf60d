# Has virt-manager's own code open a connection, and delete a domain with its disks, as its dialog does.
import sys
import time

import gi

sys.path.insert(0, "/usr/share/virt-manager")
gi.require_version("Gtk", "3.0")
gi.require_version("LibvirtGLib", "1.0")
from gi.repository import GLib, LibvirtGLib

LibvirtGLib.init(None)
LibvirtGLib.event_register()
from virtinst import BuildConfig
from virtManager import config
from virtManager.lib import testmock

config.vmmConfig.get_instance(BuildConfig, testmock.CLITestOptionsClass([]))
from virtManager import connection, delete
from virtManager.engine import vmmEngine

vmmEngine.get_instance()._tick_thread.start()  # what polls the connections
opened = []
conn = connection.vmmConnection(sys.argv[1])
conn.connect("open-completed", lambda _, error: opened.append(error))
conn.open()
deadline = time.monotonic() + 60
while not opened and time.monotonic() < deadline:
    GLib.MainContext.default().iteration(False)
    time.sleep(0.01)
if not opened or opened[0]:
    sys.exit("it does not connect: %s" % opened)
domains = {vm.get_name(): vm for vm in conn.list_vms()}


class Job:
    """The progress dialog."""

    error = None

    def get_meter(self):
        return self

    def start(self, *_):
        pass

    def end(self, *_):
        pass

    def set_error(self, error, details):
        self.error = error
        print(error)
        print(details)


job = Job()
if len(sys.argv) < 3:
    print(" ".join(sorted(domains)))
else:
    vm = domains[sys.argv[2]]
    paths = [disk.path for disk in delete._build_diskdata_for_vm(vm) if disk.path]  # others cannot be ticked
    dialog = delete.vmmDeleteDialog.__new__(delete.vmmDeleteDialog)  # without its window
    dialog._async_delete(job, vm, paths)
sys.stdout.flush()
import os

os._exit(1 if job.error else 0)
