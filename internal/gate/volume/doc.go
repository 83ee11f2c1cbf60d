// Package volume finds out what a call would do to the data of domains' disks, by asking libvirtd:
// which domains use a storage volume, whether a disk gets smaller, and whether a domain is gone
// when it is destroyed.
//
// libvirtd is asked on the client's connection, with the client's rights. If it does not answer, or
// not in time, the call passes: otherwise a slow pool would refuse calls about volumes that no
// protected domain uses.
package volume
