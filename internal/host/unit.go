package host

// ShutdownUnitText is examples/hook/stopguard-shutdown.service, which cannot be embedded from here.
const ShutdownUnitText = `# Tells stopguard that the host shuts down, so that no veto holds the shutdown up until the power is cut.
#
# Started after libvirt-guests, it is stopped before it: the flag is set by the time that guests are stopped.

[Unit]
Description=Flag for stopguard that the host shuts down
Documentation=https://github.com/stopguard/stopguard
After=libvirt-guests.service

[Service]
Type=oneshot
RemainAfterExit=yes
RuntimeDirectory=stopguard
RuntimeDirectoryPreserve=yes
ExecStart=/bin/rm -f /run/stopguard/shutting-down
# Restarting this unit is no shutdown.
ExecStop=/bin/sh -c 'test "$(systemctl is-system-running)" != stopping || : > /run/stopguard/shutting-down'

[Install]
WantedBy=multi-user.target
`
