// Package volume finds out what a call would do to the data of domains' disks, by asking libvirtd:
// which domains use a storage volume, whether a disk gets smaller, and whether a domain is gone
// when it is destroyed.
//
// libvirtd is asked on the client's connection, with the client's rights. What it does not say, or
// not in time, is not known, and the call passes: a volume of a pool that nobody protects must not
// depend on that.
package volume
