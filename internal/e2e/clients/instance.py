# Has Nova's own compute manager and libvirt driver delete an instance. What they ask other services of OpenStack is printed.
import nova.monkey_patch  # noqa: must be the first
import os
import sys
import types

from nova import conf, context, objects
from nova.compute import manager
from nova.virt import fake
from nova.virt.libvirt import driver

uuid = sys.argv[1]
objects.register_all()
CONF = conf.CONF
CONF([], project="nova", default_config_files=[])
CONF.set_override("virt_type", "qemu", group="libvirt")
CONF.set_override("instances_path", "/var/lib/nova/instances")
CONF.set_override("state_path", "/var/lib/nova")


class Instance(objects.Instance):
    """An instance that is not kept in a database."""

    def save(self, *_, **__):
        pass

    def get_network_info(self):
        return []


libvirt = driver.LibvirtDriver(fake.FakeVirtAPI())
libvirt._set_host_enabled = lambda *_, **__: None  # it is Nova's database that it is set in
libvirt._host.initialize()
instance = Instance(
    id=1, uuid=uuid, host="h", system_metadata={}, vm_state="active", task_state="deleting", power_state=1,
    display_name="i", image_ref="", project_id="p", user_id="u", resources=None)
instance.obj_reset_changes()
compute = types.SimpleNamespace(
    driver=libvirt, host="h", volume_api=None,
    network_api=types.SimpleNamespace(get_instance_nw_info=lambda *_: []),
    _get_instance_block_device_info=lambda *_, **__: {"block_device_mapping": []},
    _try_deallocate_network=lambda *_, **__: print("Nova releases the ports of the instance"))
code = 0
try:
    manager.ComputeManager._shutdown_instance(compute, context.get_admin_context(), instance, [], notify=False)
    print("Nova has deleted the instance")
except Exception as e:
    print("Nova sets the instance to ERROR: %s: %s" % (type(e).__name__, e))
    code = 1
sys.stdout.flush()
os._exit(code)
