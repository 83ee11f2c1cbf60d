package main

// The files of examples/gate, which cannot be embedded from here.
const (
	gateSocketText = `# The socket that libvirt's clients connect to, while stopguard's gate stands before libvirtd. libvirtd's own is moved out
# of reach by a drop-in of libvirtd.socket. Only together do they make sense: stopguard install puts both there.

[Unit]
Description=libvirt local socket, kept by stopguard's gate
Documentation=https://github.com/stopguard/stopguard
# Before whoever waits for libvirtd. Nothing has to come before: systemd replaces a socket that is there.
Before=libvirtd.service libvirt-guests.service

[Socket]
ListenStream=/run/libvirt/libvirt-sock
# Who may connect is as it was: a drop-in that install writes says how libvirtd.socket had it. Without it, only root.
SocketMode=0600
# The file stays when this unit stops, for by then it may be libvirtd's again. There is no RemoveOnStop.

[Install]
WantedBy=sockets.target
`

	gateServiceText = `# The gate between libvirt's clients and libvirtd.
#
# To end it is to end every connection through it, and what hangs on one: a migration, a domain with autodestroy. So a
# package must never restart it (a reload ends nothing), and nothing here follows libvirtd: the gate outlives libvirtd's restarts.

[Unit]
Description=Gate of stopguard before libvirtd
Documentation=https://github.com/stopguard/stopguard
Requires=stopguard-gate.socket
Wants=libvirtd.socket
After=stopguard-gate.socket libvirtd.socket libvirtd.service dbus.service
# libvirt-guests stops guests through the gate: at shutdown the gate ends after it, and libvirtd after the gate.
Before=libvirt-guests.service
# Tried again for ever: systemd would close the socket of a service that it gave up.
StartLimitIntervalSec=0

[Service]
Type=notify
# Whoever runs node_exporter links the file into the folder of its textfile collector.
ExecStart=/usr/sbin/stopguard-gate -metrics /run/stopguard/gate.prom
# It runs the program that is installed by then in its own place, as the same process, with the connections that there are.
ExecReload=/bin/kill -HUP $MAINPID
Restart=on-failure
RestartSec=1s
TimeoutStopSec=10s
# A client takes two, and a few more while it passes some.
LimitNOFILE=65536
OOMScoreAdjust=-900

# Tickets and records; the flag of the shutdown is in the last one, and stays.
StateDirectory=stopguard
LogsDirectory=stopguard
LogsDirectoryMode=0700
RuntimeDirectory=stopguard
RuntimeDirectoryPreserve=yes

# It connects to libvirtd as each client's user, reads about the clients and the guests in /proc and /run, and asks the
# kernel which sockets there are. The network has to be the host's, for that table is the network's.
CapabilityBoundingSet=CAP_SETUID CAP_SETGID
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictAddressFamilies=AF_UNIX AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
UMask=0077

[Install]
WantedBy=multi-user.target
`

	gateMoveText = `# Moves libvirtd's socket to where only root, and so stopguard's gate, reaches it. As a drop-in of libvirtd.socket, it is
# /etc/systemd/system/libvirtd.socket.d/50-stopguard.conf. stopguard uninstall --restart takes it away again.

[Socket]
ListenStream=
ListenStream=/run/stopguard-up/libvirt-sock
SocketUser=root
SocketGroup=root
SocketMode=0600
DirectoryMode=0700
`
)
