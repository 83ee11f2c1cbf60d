// Package unit has the files of systemd's by which a gate stands before libvirtd: packages ship
// them, and the tool writes them.
package unit

import _ "embed"

// Socket is the unit of the socket that libvirt's clients connect to.
//
//go:embed stopguard-gate.socket
var Socket string

// Service is the unit of the gate.
//
//go:embed stopguard-gate.service
var Service string

// Move is a drop-in of libvirtd.socket that moves libvirtd's socket out of the clients' reach.
//
//go:embed libvirtd-socket.conf
var Move string
