// Package volume determines the effect of a call on the data of domains' disks: which domains use a
// storage volume, whether a disk gets smaller, and whether a domain is gone when it is destroyed.
//
// It asks libvirtd on the client's connection, with the client's rights. If libvirtd does not say
// in time which domains use a volume, that is an error. If it refuses to tell the client about a
// domain, the domain counts as one that does not use the volume. A domain whose XML is too large
// counts as one that may use it.
package volume
