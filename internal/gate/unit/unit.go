// Package unit has the systemd files by which a gate stands before libvirt's daemon. Packages ship
// the gate's own units, and the tool writes the rest.
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
